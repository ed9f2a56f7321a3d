"""Several runs from one settings text: one for each combination of the values of some settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from acft.errors import AcftError, ConfigError
from acft.ui.control import MAX_QUEUED
from acft.ui.page import Visit, Wire, Workbench
from acft.ui.parts import origin
from acft.ui.web import words
from acft.ui.web.dom import Node, act, el

MAX_LETTERS = 2000
ABOUT = (
    "One setting a line with its values, separated by |. Every combination becomes a run of its "
    "own; one that a run has already is left out."
)


def panel(bench: Workbench, visit: Visit, *planned: Node | None, lines: str = "") -> Node:
    """The field and what would be queued; nothing for who may only look."""
    if not visit.may_change or bench.bind.is_demo:
        return ""
    return el(
        "details.several",
        el("summary", "Several runs at once"),
        el("p.side", ABOUT),
        el("textarea", value=lines, rows="3", maxlength=str(MAX_LETTERS), spellcheck="false",
           placeholder="seed=0|1|2", aria_label="Settings to vary", **act("vary")),
        planned,
    )  # fmt: skip


def read(lines: Any) -> list[str]:
    """The lines of a grid that a browser sent.

    Raises:
        ConfigError: They are no text, or longer than any grid is.
    """
    if not isinstance(lines, str):
        raise ConfigError("no grid was sent; reload the page")
    if len(lines) > MAX_LETTERS:
        raise ConfigError(f"a grid of {len(lines):,} letters; at most {MAX_LETTERS:,} are read")
    return [line.strip() for line in lines.splitlines() if line.strip()]


def connect(bench: Workbench, wire: Wire, part: Any, text: Any) -> None:
    """Connects the controls of the part, a view with the acts ``vary`` and ``launch_grid``."""

    def vary(visit: Visit, content: str) -> Node:
        lines = visit.data.get("value")
        return panel(bench, visit, _plan(bench, content, lines), lines=str(lines))

    def launch_grid(visit: Visit, content: str) -> Node:
        lines, n_confirmed = visit.data.get("lines"), visit.data.get("n")
        if not isinstance(n_confirmed, int):
            raise ConfigError("nothing was confirmed; reload the page")
        request = bench.request_id(visit, f"{content} {lines}")
        queued = bench.control.launch_grid(
            content, read(lines), n_confirmed, request, visit.query.get("from", ""),
            origin.experiment(bench, visit, content),
        )  # fmt: skip
        told = f"{words.count(len(queued), 'run')} queued; opening the list …"
        return el("div", el("p", told), data_goto="./")

    # It looks up files that the settings name, so it needs the token although it changes nothing.
    wire.change(part.vary, vary, inputs=[text], outputs=[part], trigger_mode="always_last")
    wire.change(part.launch_grid, launch_grid, inputs=[text], outputs=[part])


def _plan(bench: Workbench, text: str, lines: Any) -> Node | None:
    """The combinations and the button that queues those that are new, or what is wrong."""
    try:
        grid = read(lines)
        planned = bench.control.plan_grid(text, grid) if grid else []
    except AcftError as error:
        problems = [el("p", line) for line in str(error).splitlines()[:20]]
        return el("div.notice.bad", problems, role="status", data_show=str(lines))
    if not planned:
        return None
    n_new = sum(not each["run_id"] for each in planned)
    button = el(
        "button.go", f"Launch {words.count(n_new, 'run')}", type="button",
        disabled=not 0 < n_new <= MAX_QUEUED, data_settled=True, data_patient=True,
        **act("launch_grid", n=n_new, lines=lines),
    )  # fmt: skip
    many = f"At most {MAX_QUEUED} may wait at once." if n_new > MAX_QUEUED else ""
    return el(
        "div",
        el("ul.plain", _combinations(planned)),
        el("div.launchbar", button, el("span.side", many)),
        data_show=str(lines),
    )


def _combinations(planned: Sequence[Mapping[str, Any]]) -> list[Node]:
    shown = [
        el("li", el("code", " ".join(each["changes"])),
           [" is run ", el("a", each["run_id"], href=f"run?run={each['run_id']}")]
           if each["run_id"] else None)
        for each in planned[:MAX_QUEUED]
    ]  # fmt: skip
    rest = len(planned) - MAX_QUEUED
    return [*shown, el("li.side", f"and {rest} more")] if rest > 0 else shown
