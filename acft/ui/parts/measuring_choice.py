"""What a measurement is compared with, who judges it, its further settings, and its command."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from acft.config import read_override
from acft.errors import ConfigError
from acft.ui.page import Visit, Workbench
from acft.ui.parts.origin import runs_option
from acft.ui.reading.measuring import judges_of
from acft.ui.reading.names import run_names
from acft.ui.reading.reader import Run
from acft.ui.web.dom import Node, act, choose, el

CONTROL, CHANGES, SCORER = "measure_control", "measure_set", "measured_by_"
"""In the address: the control, the further settings, and before the name of each scorer."""
NO_CONTROL = "none"
MAX_LETTERS = 2000
"""Of the further settings."""
ABOUT = (
    "What both have in common says nothing of the constraint, so results then also tell the change "
    "beyond the control's: of a run with the same data, seeds and steps and no constraint at work."
)
EXAMPLE = "method.options.rtp.horizon = 30"


def chosen_control(visit: Visit) -> str | None:
    """The control of the address, else of the button that was clicked; None where neither says."""
    asked = visit.query.get(CONTROL, "") or visit.data.get("control")
    return "" if asked == NO_CONTROL else None if asked is None else str(asked)


def chosen_scorers(visit: Visit, run: Run) -> tuple[str, ...] | None:
    """The ticked scorers; None where they are the run's own."""
    own = judges_of(run)
    touched = [key.removeprefix(SCORER) for key in visit.query if key.startswith(SCORER)]
    ticked = tuple(name for name in dict.fromkeys([*own, *touched]) if _is_ticked(visit, name, own))
    return None if set(ticked) == set(own) else ticked


def chosen_changes(visit: Visit) -> tuple[str, ...]:
    """The further settings as ``section.key=value``; none of who may only look.

    Lines are as in a settings file, with or without heads of tables, or as ``--set`` takes them.

    Raises:
        ConfigError: They are too long, or a line is neither.
    """
    text = visit.query.get(CHANGES, "") if visit.may_change else ""
    if len(text) > MAX_LETTERS:
        raise ConfigError(
            f"further settings of {len(text):,} letters; at most {MAX_LETTERS:,} are read"
        )
    section, found = "", []
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("[") and line.endswith("]") and not line.startswith("[["):
            section = f"{line[1:-1].strip()}."
        elif not line.startswith("#"):
            read_override(line, "further settings")
            found.append(f"{section}{line}")
    return tuple(found)


def fields(bench: Workbench, visit: Visit, run: Run, offered: Mapping[str, Any]) -> list[Node]:
    """The controls, the scorers and a box for anything else; what was typed stays in them."""
    return [_controls(bench, visit, offered), _scorers(visit, run, offered["scorers"]),
            _changes(visit)]  # fmt: skip


def command(bench: Workbench, run: Run, suites: Sequence[str], weighed: Mapping[str, Any]) -> Node:
    """The command line that measures the same, folded."""
    parts = ["acft evaluate", run.run_id, *(f"--suite {shlex.quote(name)}" for name in suites)]
    parts += [f"--control {shlex.quote(weighed['control'])}"] if weighed["control"] else []
    changes = [f" \\\n  --set {shlex.quote(change)}" for change in weighed["overrides"]]
    shown = f"{' '.join(parts)}{runs_option(bench)}{''.join(changes)}"
    copy = el("button.do", "Copy command", type="button", data_do="copy", data_text=shown)
    return el("details", el("summary", "The same from the command line"),
              el("pre.log.command", shown, tabindex="0"), el("div.actions", copy))  # fmt: skip


def _controls(bench: Workbench, visit: Visit, offered: Mapping[str, Any]) -> Node:
    runs = [run for name in offered["controls"] if (run := bench.reader.run(name)) is not None]
    names = run_names(bench.reader, runs)
    chosen = visit.query.get(CONTROL, "") or offered["control"] or NO_CONTROL
    pairs = [(NO_CONTROL, "none"), *((i, f"{said} · {i}") for i, said in names.items())]
    if chosen not in dict(pairs):
        pairs.append((chosen, f"{chosen} (cannot serve)"))
    # A browser keeps what was picked, so a menu of other choices has to be another menu.
    key = "|".join(value for value, _ in pairs)
    menu = choose(pairs, chosen, "Control", data_query=CONTROL, key=key, **act("cost"))
    why = ABOUT if len(pairs) > 1 else "No finished run here was trained so that it could serve."
    return el("div.toolbar", el("label.side", "control ", menu), el("span.side", why))


def _scorers(visit: Visit, run: Run, offered: Sequence[Mapping[str, Any]]) -> Node:
    own = judges_of(run)
    why_not = {each["name"]: each["why_not"] for each in offered}
    summary = {each["name"]: each["summary"] for each in offered}
    boxes = [
        el("label.side", el(
            "input", type="checkbox", data_query=f"{SCORER}{name}",
            checked=_is_ticked(visit, name, own),
            # One that the run names can be left out also where it is missing.
            disabled=bool(why_not.get(name)) and not _is_ticked(visit, name, own),
            title=why_not.get(name) or None, **act("cost")),
           el("span", f" {name}", title=summary.get(name)))
        for name in dict.fromkeys([*own, *why_not])
    ]  # fmt: skip
    return el("fieldset.toolbar", el("legend.sr", "Scorers"), el("span.side", "scorers"), boxes)


def _changes(visit: Visit) -> Node:
    box = el(
        "textarea", value=visit.query.get(CHANGES, ""), rows="2", maxlength=str(MAX_LETTERS),
        spellcheck="false", placeholder=EXAMPLE, aria_label="Further settings",
        disabled=not visit.may_change, data_query=CHANGES, **act("cost"),
    )  # fmt: skip
    return el("div", el("p.side", "Further settings, one a line, as --set takes them:"), box)


def _is_ticked(visit: Visit, name: str, own: Sequence[str]) -> bool:
    return visit.query.get(f"{SCORER}{name}", "true" if name in own else "false") == "true"
