"""What a read-only demonstration says: why nothing can be launched, and how to do it elsewhere."""

from acft.runs.recording import TAG
from acft.ui.parts.replay import link
from acft.ui.reading.reader import Run
from acft.ui.web import words
from acft.ui.web.dom import Node, el
from acft.ui.web.guard import Bind

HOST = "https://huggingface.co/spaces"
"""Where Spaces live and are duplicated."""


def reason(bind: Bind) -> str:
    """Why nothing can be launched here, in one sentence."""
    if bind.is_space:
        return (
            "This is a public Space on shared hardware: it replays recorded runs, and its server "
            "has no handler that launches or changes one."
        )
    return "This workbench was started read-only: its server launches and changes nothing."


def command(bind: Bind) -> str:
    """What starts a workbench of one's own."""
    if not bind.space_id:
        return "make run"
    return f"git clone {HOST}/{bind.space_id} acft && make -C acft run"


def way_out(bind: Bind) -> Node:
    """The command to run it oneself, to copy, and the Space to duplicate."""
    own = command(bind)
    copy = el("button.do", "Copy command", type="button", data_do="copy", data_text=own)
    duplicate = None
    if bind.space_id:
        address = f"{HOST}/{bind.space_id}?duplicate=true"
        duplicate = el("a.do", "Duplicate this Space", href=address)
    return el("span.wayout", "Your own:", el("code", own), copy, duplicate)


def welcome(run: Run) -> Node:
    """What there is to see in a recorded run, for who has none of their own."""
    where = f"?run={run.run_id}"
    cores = words.count(int(run.facts.get("threads") or 1), "processor core")
    spent = words.duration(run.status.ended - run.status.started)
    return el(
        "div.hero",
        el("h2", "A recorded run to explore"),
        el("p", f"“{run.title}” is a real run, with all it sampled, its token guidance and its "
           f"final weights. Every page shows what the run wrote, not an illustration. The "
           f"{spent} it took are by its own clock, with {cores} of the machine it was recorded "
           "on; they do not foretell the time of a run here."),
        el("div.actions",
           el("a.go", "Play it as if live", href=link(run)),
           el("a.do", "Before and after", href=f"compare{where}"),
           el("a.do", "Which tokens pay", href=f"tokens{where}"),
           el("a.do", "Its curves", href=f"run{where}")),
    )  # fmt: skip


def is_recorded(run: Run) -> bool:
    """Whether the run came with the project."""
    return TAG in run.labels.tags
