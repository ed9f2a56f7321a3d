"""What may be done with a run's files: export its policy, free space, delete all of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from acft.errors import AcftError, RunError
from acft.runs import exports
from acft.runs.exports import Export
from acft.runs.sizes import size
from acft.runs.space import space
from acft.ui.page import Visit, Wire, Workbench
from acft.ui.reading.reader import Run, table_of
from acft.ui.web.dom import Node, act, choose, el

FORMS = {"merged": "whole weights, for transformers", "adapter": "adapter alone, for peft"}
FIELDS = {"round": "export_round", "form": "export_form", "oracle": "export_oracle"}
"""Names of the choices in the page's address."""


@dataclass(frozen=True)
class _Offer:
    """What of a run can be exported."""

    rounds: Sequence[int]
    preferred: int
    has_adapter: bool


def panel(
    bench: Workbench, visit: Visit, run: Run, *told: Node, wanted: Export | None = None
) -> Node:
    """The part of a run's page, with what was just done; nothing for who may only look.

    ``wanted`` is an export that is about to be written.
    """
    if not visit.may_change or bench.bind.is_demo:
        return ""
    written = wanted or bench.control.exported(run.run_id)
    return el(
        "details.upkeep",
        el("summary", "Export, free space, delete"),
        _export(visit, run, is_busy=written is not None),
        _underway(written) if written else None,
        told,
        _space(run),
        key=f"upkeep-{run.run_id}",
    )


def chosen(visit: Visit, run: Run) -> Export:
    """The export that the page's address asks for.

    Raises:
        RunError: The run has no checkpoint, or none of that round.
    """
    offer = _offer(run)
    if offer is None:
        raise RunError(f"run {run.run_id} has no checkpoint to export")
    asked = _asked_round(visit, offer)
    if asked not in map(str, offer.rounds):
        there = ", ".join(map(str, offer.rounds))
        raise RunError(
            f"run {run.run_id} has no checkpoint of round {asked!r} (there are: {there})"
        )
    return Export(int(asked), _is_merged(visit, offer), _has_oracle(visit))


def connect(bench: Workbench, wire: Wire, part: Any) -> None:
    """Connects the controls of the part, a view with the acts ``choose``, ``export``, and so on."""

    def of(visit: Visit) -> Run:
        run = bench.reader.run(str(visit.data.get("run", "")))
        if run is None:
            raise RunError("this run is no longer there; reload the page")
        return run

    def choose_export(visit: Visit) -> Node:
        return panel(bench, visit, of(visit))

    def export(visit: Visit) -> Iterator[Node]:
        run = of(visit)
        wanted = chosen(visit, run)
        yield panel(bench, visit, run, wanted=wanted)
        try:
            known = bench.control.export(run.run_id, wanted, bench.export_process)
        except AcftError as error:
            yield panel(bench, visit, run, el("div.notice.bad", str(error), role="alert"))
        else:
            told = [el("p", f"{hint[:1].upper()}{hint[1:]}.") for hint in known]
            done = el("div.notice.good", f"{wanted.name} is written.", told, role="status")
            yield panel(bench, visit, run, done)

    def free(visit: Visit) -> Node:
        run = of(visit)
        freed = bench.control.free(run.run_id)
        return panel(bench, visit, run, el("div.notice.good", f"{size(freed)} freed.",
                                           role="status"))  # fmt: skip

    def delete(visit: Visit) -> Node:
        freed = bench.control.delete(of(visit).run_id)
        return el("div", el("p", f"Deleted, {size(freed)} freed …"), data_goto="./")

    wire.read(part.choose, choose_export, outputs=[part], trigger_mode="always_last")
    wire.stream(part.export, export, outputs=[part], needs_token=True, waiting=[gr.skip()])
    wire.change(part.free, free, outputs=[part])
    wire.change(part.delete, delete, outputs=[part])


def _offer(run: Run) -> _Offer | None:
    """What can be exported; None where there is nothing."""
    if run.status.kind != "training":
        return None
    there = [r.round for r in run.history.rounds if (run.paths.root / r.checkpoint).is_dir()]
    if not there:
        return None
    best = run.history.best
    preferred = best.round if best and best.round in there else there[-1]
    return _Offer(there, preferred, table_of(run.settings, "adapter").get("kind") != "full")


def _asked_round(visit: Visit, offer: _Offer) -> str:
    return visit.query.get(FIELDS["round"], str(offer.preferred))


def _is_merged(visit: Visit, offer: _Offer) -> bool:
    return not offer.has_adapter or visit.query.get(FIELDS["form"]) != "adapter"


def _has_oracle(visit: Visit) -> bool:
    return visit.query.get(FIELDS["oracle"]) == "true"


def _export(visit: Visit, run: Run, *, is_busy: bool) -> Node | None:
    """Choices, the button, and the exports there are."""
    offer = _offer(run)
    if offer is None:
        return None
    ask, asked = act("choose", run=run.run_id), _asked_round(visit, offer)
    rounds = [
        (str(n), f"round {n}, preferred" if n == offer.preferred else f"round {n}")
        for n in offer.rounds
    ]
    if asked not in dict(rounds):  # of an old address, or freed meanwhile
        rounds.insert(0, (asked, f"{asked}: not there"))
    form = "merged" if _is_merged(visit, offer) else "adapter"
    box = el("input", type="checkbox", data_query=FIELDS["oracle"],
             checked=_has_oracle(visit), **ask)  # fmt: skip
    return el(
        "div",
        el("h3", "The tuned policy for other programs"),
        el(
            "div.toolbar",
            el(
                "fieldset.toolbar",
                choose(rounds, asked, "Round", data_query=FIELDS["round"], **ask),
                choose([*FORMS.items()], form, "Form", data_query=FIELDS["form"], **ask)
                if offer.has_adapter else el("span.side", FORMS["merged"]),
                el("label.side", box, " with the oracle, for guided decoding"),
                disabled=is_busy,
                aria_label="What to export",
            ),
            # It stays enabled, since who pressed it would lose the focus.
            el("button.do", "Export", type="button", data_patient=True,
               **act("export", run=run.run_id)),
        ),
        _there(run),
    )  # fmt: skip


def _there(run: Run) -> Node | None:
    """The exports in the run's folder, each with its path to be copied."""
    paths = [str(export.folder(run.paths)) for export in exports.exports(run.paths)]
    items = [
        el("li", el("code", path), " ",
           el("button.do", "Copy", type="button", data_do="copy", data_text=path,
              aria_label=f"Copy {path}"), key=path)
        for path in paths
    ]  # fmt: skip
    return el("ul.plain", items) if items else None


def _space(run: Run) -> Node:
    """What the run takes, and the buttons that give some or all of it back."""
    taken = space(run.paths)
    free = el("button.do", f"Free {size(taken.spare)}", type="button",
              **act("free", run=run.run_id))  # fmt: skip
    delete = el("button.do.danger", "Delete for good", type="button", data_patient=True,
                **act("delete", run=run.run_id))  # fmt: skip
    return el(
        "div",
        el("h3", "Space"),
        el("p.side", f"The run takes {size(taken.total)}, {size(taken.checkpoints)} of it in "
           "checkpoints."),
        el("p.side", free, " Checkpoints other than the best and the last; it cannot go on from "
           "those rounds then.") if taken.spare and not run.state.is_live else None,
        el("p.side", "Stop the run to delete it or a part of it.") if run.state.is_live else el(
            "details", el("summary", "Delete this run"),
            el("p.side", f"Settings, texts, scores, checkpoints and exports of “{run.title}” go, "
               f"{size(taken.total)}; nothing brings them back. Runs that measure it stay."),
            delete),
    )  # fmt: skip


def _underway(wanted: Export) -> Node:
    what = f"Writing {wanted.name}; it goes on if this page is closed. "
    return el("div.notice", what, el("span.side", data_ticking=True), role="status")
