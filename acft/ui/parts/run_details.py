"""The lower part of a run's page: measured values, audit, rounds, settings, the worker's log."""

import shlex

from acft.atomic import read_own_text
from acft.events import RoundFinished
from acft.runs.status import RESUMABLE
from acft.schema import TABLES
from acft.store.queries import audit
from acft.ui.page import Visit, Workbench
from acft.ui.parts.results import results
from acft.ui.reading.reader import Run
from acft.ui.web import words
from acft.ui.web.dom import Node, act, el, sql_behind, table

ANEW = "Resuming after a round does all later ones again; what they have written is given up."


def details(bench: Workbench, visit: Visit, run: Run, *, is_replay: bool = False) -> Node:
    """Measured values, checkpoints, settings, and the audit, which is of what is stored now."""
    return el(
        "section",
        el("details", el("summary", f"Evaluations ({len(run.history.evaluations)})"),
           results(run)) if run.status.kind == "training" else None,
        None if is_replay else el(
            "details", el("summary", "Audit: sums that must agree"), _audit(bench, run)),
        el("details", el("summary", f"Rounds and checkpoints ({len(run.history.rounds)})"),
           _rounds(run, may_resume=visit.may_change and not is_replay)),
        el("details", el("summary", "Settings as written"),
           el("pre.log", _read(run), tabindex="0")),
        None if is_replay or bench.bind.is_demo else el(
            "details", el("summary", "On the command line"), _commands(run)),
    )  # fmt: skip


def _commands(run: Run) -> Node:
    """What the page has no button for, as commands to be pasted anywhere."""
    name, folder = run.run_id, f"--runs {shlex.quote(str(run.paths.root.parent.absolute()))}"
    found = [("Delete the run; it asks first", f"acft delete {name} {folder}")]
    if run.status.kind == "training":
        seeds = f"acft launch {name} --grid 'seed=1|2' --yes {folder}"
        found.insert(0, ("The same settings with other seeds", seeds))
    if run.history.rounds and run.status.kind == "training":
        found = [
            ("The tuned policy for plain transformers", f"acft export {name} exported {folder}"),
            ("Its responses to a prompt", f"acft generate {name} --prompt 'You are' {folder}"),
            *found,
            (
                "Free all checkpoints but best and last",
                f"acft delete {name} --checkpoints {folder}",
            ),
        ]
    rows: list[list[Node]] = [
        [what, el("code", text),
         el("button.do", "Copy", type="button", data_do="copy", data_text=text,
            aria_label=f"Copy: {what}")]
        for what, text in found
    ]  # fmt: skip
    return table(["What", "Command", el("span.sr", "Copy")], rows, caption="Commands")


def log(bench: Workbench, run: Run) -> Node:
    """The last lines the worker printed."""
    return el(
        "details", el("summary", "Log of the worker, last lines"),
        el("pre.log", bench.reader.log_tail(run) or "nothing printed", tabindex="0"),
    )  # fmt: skip


def _read(run: Run) -> str:
    try:
        return read_own_text(run.paths.spec)
    except (OSError, UnicodeError) as error:
        return f"the settings file cannot be read: {error}"


def unread(bench: Workbench, run: Run) -> str:
    """How far the database has read the run; empty when it has read all that the sums are about.

    The latest events of a live run are always ahead of it.
    """
    events, shards = audit.taken_in(bench.store, run.run_id)
    n_shards = sum(shard.table in TABLES for shard in run.history.shards)
    if shards < n_shards:
        return f"{shards:,} of {n_shards:,} shards"
    is_behind = events < run.history.n_events
    if is_behind and not (events and run.state.is_live):
        return f"{events:,} of {run.history.n_events:,} events"
    return ""


def _audit(bench: Workbench, run: Run) -> Node:
    if not run.history.n_events:
        return el("p.side", "The run has recorded nothing yet.")
    so_far = unread(bench, run)
    if so_far:
        return el("p.side", f"The database has not read all of this run yet: {so_far}.")
    found = audit.audit(bench.store, run.run_id)
    rows = [
        [
            el("span.chip.good", "agrees") if row["agrees"] else el("span.chip.bad", "differs"),
            str(row["what"]),
            *(
                f"{row[side]:,.0f}" if row["is_count"] else words.number(row[side], 6)
                for side in ("found", "expected")
            ),
        ]
        for row in found.records()
    ]
    columns = [el("span.sr", "Verdict"), "What", "Found", "Expected"]
    return el(
        "div",
        table(columns, rows, caption="Audit", numeric={2, 3}),
        sql_behind("table", found.sql),
    )


def _rounds(run: Run, *, may_resume: bool) -> Node:
    """Sealed rounds; where the run is not done, each is a place to go on from."""
    best, can_go_on = run.history.best, may_resume and run.state.state in RESUMABLE
    rows: list[list[Node]] = [
        [str(r.round), r.checkpoint, str(r.policy_version), str(r.oracle_version),
         f"best: {best.reason}" if best and best.round == r.round else "",
         *([_resume(run, r)] if can_go_on else [])]
        for r in run.history.rounds
    ]  # fmt: skip
    if not rows:
        return el("p.side", "No round is sealed yet.")
    columns: list[Node] = ["Round", "Checkpoint", "Policy version", "Oracle version", "Remark"]
    columns += [el("span.sr", "Resume")] if can_go_on else []
    rounds = table(columns, rows, caption="Rounds", numeric={0, 2, 3})
    return el("div", el("p.side", ANEW), rounds) if can_go_on and len(rows) > 1 else rounds


def _resume(run: Run, sealed: RoundFinished) -> Node:
    """The button that does all later rounds again; none where the checkpoint was deleted."""
    if not (run.paths.root / sealed.checkpoint).is_dir():
        return el("span.side", "deleted")
    return el("button.do", "Resume after it", type="button",
              aria_label=f"Resume after round {sealed.round}",
              **act("resume", run=run.run_id, round=sealed.round))  # fmt: skip
