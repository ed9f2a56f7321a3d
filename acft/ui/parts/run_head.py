"""The top of a run's page: what it is, how far it is, what may be done, what went wrong."""

from shlex import quote
from urllib.parse import quote_plus

from acft.events import Phase, Progress
from acft.runs.directory import RUN_ID
from acft.runs.status import FINAL, RESUMABLE
from acft.runs.supervisor import Adoption
from acft.schema import BEGINNING, Status
from acft.ui.page import Visit
from acft.ui.parts import labels
from acft.ui.parts.alerts import Alert, alerts
from acft.ui.parts.replay import link
from acft.ui.reading.measuring import being_measured, suites_of
from acft.ui.reading.reader import Run, table_of
from acft.ui.reading.states import state_chip
from acft.ui.web import words
from acft.ui.web.dom import Node, act, el

PHASES: dict[str, str] = {
    Phase.SAMPLE_TRAIN: "sampling rollouts",
    Phase.SAMPLE_ORACLE: "sampling rollouts to train the oracle",
    Phase.SAMPLE_VALIDATION: "sampling rollouts to test the oracle",
    Phase.FILTER: "filtering the corpus",
    Phase.GUIDE: "computing the guidance of the corpus",
    Phase.FIT_ORACLE: "training the oracle",
    Phase.FIT_POLICY: "training the policy",
    Phase.VALIDATE: "validating",
    Phase.EVALUATE: "evaluating on test prompts",
    Phase.LOAD: "loading models and texts",
    Phase.CORPUS: "the base policy writes its corpus",
    Phase.PERPLEXITY: "measuring perplexity",
    Phase.JUDGE: "judging responses",
}
MOST_ALERTS = 4
"""Notices that are shown at once."""
CHANGES_LETTERS = 90
KEPT = "Resuming goes on after the last round that was sealed; the one underway begins anew."


def head(run: Run, visit: Visit, adoption: Adoption | None = None) -> Node:
    """Title, state, actions, progress and whatever needs attention."""
    return el(
        "section",
        el("div.runline", el("h1.runname", run.title), state_chip(run)),
        el("div.runline", _about(run), _buttons(run, visit)),
        labels.editor(run, visit),
        _progress(run),
        _adopted(adoption) if adoption and run.state.is_live else None,
        _trouble(run),
    )


def _adopted(proof: Adoption) -> Node:
    return el("p.side", "The workbench was restarted and took this run over: its process "
              f"{proof.pid}, started {words.ago(proof.started)}, is still the recorded one; "
              f"{proof.events:,} events were read and {proof.lost:,} lost.")  # fmt: skip


def _buttons(run: Run, visit: Visit) -> Node:
    buttons: list[Node] = []
    state, stop = run.state.state, {"type": "button", "title": KEPT}
    if visit.may_change and state == "queued":
        buttons.append(el("button.do", "Remove from queue", type="button",
                          **act("stop", run=run.run_id, mode="now")))  # fmt: skip
    if visit.may_change and state in ("starting", "running"):
        save = act("stop", run=run.run_id, mode="save")
        buttons.append(el("button.do", "Stop after this step", **stop, **save))
    # A step can last long: who asked for its end may still ask for more.
    if visit.may_change and state in ("starting", "running", "stopping"):
        now = act("stop", run=run.run_id, mode="now")
        buttons.append(el("button.do.danger", "Stop now", **stop, **now))
    if visit.may_change and run.state.state in RESUMABLE:
        buttons.append(el("button.do", "Resume", type="button", title=_in_one_process(run),
                          **act("resume", run=run.run_id)))  # fmt: skip
    if visit.may_change:
        buttons.append(el("a.do", "Launch again with changes", href=f"launch?from={run.run_id}"))
    if run.state.state in FINAL and run.history.n_events:
        buttons.append(el("a.do", "Play as if live", href=link(run)))
    buttons += [
        el("a.do", "Tokens", href=f"tokens?run={run.run_id}"),
        el("a.do", "Compare", href=f"compare?run={run.run_id}"),
    ]
    return el("div.actions", buttons)


def _in_one_process(run: Run) -> str | None:
    """What to know before resuming a run of several processes; None of any other."""
    before = run.facts.get("processes", 1)
    return None if before == 1 else (
        f"Goes on in one process. For {before} as before: torchrun --standalone "
        f"--nproc-per-node {before} -m acft resume {run.run_id} --here "
        f"--runs {quote(str(run.paths.root.parent))}"
    )  # fmt: skip


def _about(run: Run) -> Node:
    chips, notes = labels.chips(run), labels.notes(run)
    return el("p.side", _origin(run), _lineage(run), changed(run), measured_run(run),
              [" · ", chips] if chips else None,
              [" · ", notes] if notes else None)  # fmt: skip


def _origin(run: Run) -> str:
    parts = [run.run_id, run.method or "method not known yet"]
    if model := table_of(run.settings, "model").get("name"):
        parts.append(str(model))
    if run.status.device:
        parts.append(run.status.device)
    if run.status.started:
        parts.append(f"started {words.ago(run.status.started)}")
    if run.state.is_live and len(run.history.attempts) > 1:
        parts.append(f"attempt {len(run.history.attempts)}")
    return " · ".join(parts)


def _lineage(run: Run) -> list[Node]:
    """The run whose settings these were, and where an attempt after the first one began."""
    source, begun = run.launch.cloned_from, run.status.resumed_from
    shown: list[Node] = []
    if source:
        link = el("a", source, href=f"run?run={source}", title="Whose settings these were")
        shown += [" · from run ", link if RUN_ID.fullmatch(source) else source]
    if begun:
        what = "round" if run.status.kind == "training" else "part"
        after = f"after {what} {begun.rpartition('-')[2]}"
        shown.append(f" · resumed {'from the beginning' if begun == BEGINNING else after}")
    return shown


def changed(run: Run) -> list[Node]:
    """What was asked for on top of the run's settings file, and the way to others of its grid."""
    changes = " ".join(run.overrides)
    if not changes:
        return []
    shown: list[Node] = [" · ", el("code", words.short(changes, CHANGES_LETTERS), title=changes)]
    if run.launch.sweep:
        shown += [" · ", el("a", "its grid", href=f"./?find={quote_plus(run.launch.sweep)}",
                            title="All runs of the same grid")]  # fmt: skip
    return shown


def measured_run(run: Run) -> list[Node]:
    """The run or model whose policy a measurement measures."""
    name = run.launch.subject
    if run.status.kind == "training" or not name:
        return []
    shown = el("a", name, href=f"run?run={name}") if RUN_ID.fullmatch(name) else name
    suites = ", ".join(suites_of(run))
    return [" · measures ", shown, f" by {suites}" if suites else ""]


def _progress(run: Run) -> Node | None:
    status, now = run.status, run.history.progress
    if not run.state.is_live:
        return None
    share = _share(status, now)
    bar = el("div.progress", el("div", style={"--done": f"{100 * share:.1f}%"}), role="progressbar",
             aria_valuenow=f"{100 * share:.0f}", aria_valuemin="0", aria_valuemax="100",
             aria_label="Work done")  # fmt: skip
    return el("div", bar, el("p.side", el("b", _turn(run) + _doing(run)), " · ", _left(status)))


def _turn(run: Run) -> str:
    """The round it is at; of an evaluation suite and subject, where they are known."""
    status = run.status
    if not status.rounds:
        return ""
    count = f"{min(status.round + 1, status.rounds)} of {status.rounds}"
    if status.kind == "training":
        return f"Round {count}: "
    return f"{being_measured(run) or 'Measuring'}, part {count}: "


def _doing(run: Run) -> str:
    """What the run is at, with the count of the present phase."""
    now, attempts = run.history.progress, run.history.attempts
    # An attempt's events begin after its status; until then they tell of the one before.
    is_silent = not attempts or run.status.started > attempts[-1][0]
    has_begun = run.state.state != "starting" and not is_silent
    if not has_begun or now is None:
        return "starting again" if len(attempts) > has_begun else "starting"
    doing = PHASES.get(now.phase, now.phase.replace("_", " "))
    if now.phase == Phase.EVALUATE and run.status.kind != "training":
        doing = "measuring"  # suites also read texts and answer questions
    return f"{doing} ({now.done:,} of {now.total:,} {now.unit})" if now.total else doing


def _left(status: Status) -> str:
    """How long the run will take, or what it is at while only that can be told."""
    if status.seconds_left is not None:
        return f"about {words.duration(status.seconds_left)} left"
    if status.phase_seconds_left is not None:
        return f"about {words.duration(status.phase_seconds_left)} left of this part"
    return "time left is not known yet"


def _share(status: Status, now: Progress | None) -> float:
    """Share of the work that is done: steps of a training, else rounds and the phase's units."""
    if status.steps:
        return min(1.0, status.step / status.steps)
    phase = now.done / now.total if now and now.total else 0.0
    return min(1.0, (status.round + phase) / max(1, status.rounds))


def _trouble(run: Run) -> list[Node]:
    shown: list[Node] = []
    status, state = run.status, run.state
    if state.state in ("failed", "lost") or state.is_stalled:
        shown.append(_failure(run))
    elif state.state in ("queued", "stopping") and (state.message or status.message):
        shown.append(el("div.notice", state.message or status.message))
    elif state.state == "stopped":
        shown.append(el("div.notice", el("b", "Stopped. "), _usable(run)))
    notices = [_notice(alert) for alert in alerts(run)]
    shown += notices[:MOST_ALERTS]
    if rest := notices[MOST_ALERTS:]:
        shown.append(el("details", el("summary", words.count(len(rest), "more notice")), rest))
    return shown


def _notice(alert: Alert) -> Node:
    kind = "warn" if alert.level == "warning" else "info"
    return el(f"div.notice.{kind}", _step(alert.step), alert.text)


def _step(step: int) -> list[Node]:
    """The way to a step in the curves; nothing where the warning is about the whole run."""
    if not step:
        return []
    button = el("button.problem", f"Step {step}", type="button", data_do="step",
                data_step=step, title="Mark this step in the curves")  # fmt: skip
    return [el("b", button, ": ")]


def _failure(run: Run) -> Node:
    status, state = run.status, run.state
    code = f" (exit code {status.exit_code})" if status.exit_code is not None else ""
    lines: list[Node] = [el("p", el("b", f"{state.label}{code}: "), state.message or "no message")]
    if status.advice:
        lines.append(el("p", el("b", "What to do: "), status.advice))
    if status.retry_with:
        retry = ",".join(status.retry_with)
        lines.append(
            el("a.do", "Retry with these changes", href=f"launch?from={run.run_id}&with={retry}")
        )
    # Of a process that nobody heard end, the message itself says what is left.
    if state.state != "lost" and state.failure != "killed":
        lines.append(el("p.side", _usable(run)))
    return el("div.notice.bad", lines)


def _usable(run: Run) -> str:
    if not run.history.rounds:
        return "No round was sealed; resuming starts from the beginning."
    last = run.history.rounds[-1]
    return f"{last.checkpoint} (end of round {last.round}) is complete and usable."
