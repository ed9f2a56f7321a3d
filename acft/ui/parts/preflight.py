"""What a run would read and need, and what one measured step of it took; for the launch page."""

import hashlib
import json
import os
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from threading import Lock
from typing import Any

import gradio as gr

from acft.errors import AcftError, ConfigError
from acft.runs.sizes import size
from acft.settings import UNMEASURED
from acft.ui.page import REFUSED, Visit, Workbench
from acft.ui.parts import settings_text
from acft.ui.parts.live import LOAD_SECONDS, WAITING, not_while_training
from acft.ui.web import words
from acft.ui.web.dom import Child, Node, act, el, fact, table, veiled
from acft.ui.web.hot_words import hot_tokens

LEGEND = (
    "Plain tokens are learned by cross-entropy, underlined ones also carry the KL, faint ones are "
    "only read."
)
ABOUT = (
    "Opens model, scorers and texts in another process, takes one optimiser step to measure it, "
    "and throws everything away."
)
BUSY = 1.5
"""Load of each core from which on others are at work; the step itself keeps all cores busy."""
OTHER = "The result below was measured for other settings; try these out again."
NOT_COUNTED = "Loading, judging test responses and measuring perplexity are not included."
Step = tuple[str, float]
"""What was done and when it began, in seconds of the monotonic clock."""


def button(visit: Visit) -> Node:
    """The control that asks for it; it reads files that the settings name."""
    return el(
        "div.actions",
        el("button.do", "Try it out first", type="button", disabled=not visit.may_change,
           data_settled=True, **act("preflight")),
        el("span.side", ABOUT),
    )  # fmt: skip


def waiting() -> Node:
    """The page's part until it is this one's turn."""
    return _underway([(WAITING[:1].lower() + WAITING[1:], 0.0)])


def flight(bench: Workbench, visit: Visit, text: str, turn: Lock) -> Generator[tuple[Node, Node]]:
    """The page's part while data are read, models opened and a step is taken, and what was read.

    It ends with results. ``turn`` keeps a tab waiting until the one before has left the process.

    Raises:
        AcftError: The visit may not, or settings, data or machine do not let the run take a step.
    """
    if not visit.may_change:
        raise AcftError(REFUSED)
    steps: list[Step] = [("reading prompts and texts, looking for room", time.monotonic())]
    yield _underway(steps), ""
    process = bench.rehearsal_process
    with turn, closing(process):
        data = bench.control.preflight(text, process, visit.withdrawn)
        read = shown(data)
        if data["problems"]:
            yield read, ""
            return
        # Who cancelled meanwhile leaves here, before any model gives way.
        yield el("div", _underway(steps), read), read
        not_while_training(bench)
        # Two models at once may not fit; live results open theirs again when they are asked for.
        bench.model_process.close("settings are being tried out on its device")
        parts = process.stream("rehearse", LOAD_SECONDS, visit.withdrawn, text=text)
        try:
            while True:
                step = next(parts)["doing"]
                if step != steps[-1][0]:
                    steps.append((step, time.monotonic()))
                    yield el("div", _underway(steps), read), read
        except StopIteration as end:
            yield el("div", measured(end.value, _others(bench)), read), read


def tried_out(bench: Workbench, visit: Visit, text: str, turn: Lock) -> Generator[list[Any]]:
    """As ``flight``, with the text's ``subject`` and, at first, nothing that is outdated."""
    # Edits made meanwhile are compared with the subject; later values must not undo what they say.
    told: list[Any] = [subject(text), ""]
    try:
        for shown_now, read in flight(bench, visit, text, turn):
            yield [shown_now, read, *told]
            told = [gr.skip(), gr.skip()]
    except AcftError as error:
        yield [failed(str(error)), gr.skip(), *told]


def failed(*what: Child) -> Node:
    """Why a run would fail; it stands where the verdict "ready" would be."""
    return el("div.notice.bad.failed", what, role="alert")


def subject(text: str) -> str:
    """What of a settings text a measured step depends on, as a hash; the rest may change freely."""
    try:
        values = {k: v for k, v in settings_text.parse(text).items() if k not in UNMEASURED}
        text = json.dumps(values, sort_keys=True, default=str)
    except ConfigError:
        pass  # No TOML yet: any change of it counts.
    return hashlib.sha256(text.encode()).hexdigest()


def outdated(tried: str, text: str) -> Node:
    """That the step shown was of another ``subject`` than the text's; nothing where it was not."""
    return el("div.notice.warn.outdated", OTHER) if tried and tried != subject(text) else ""


def withdrawn(read: Node) -> Node:
    """What was read before the tab's step was cancelled."""
    return el("div", el("div.notice", "Cancelled; nothing was kept."), read)


def measured(found: Mapping[str, Any], others: Sequence[str] = ()) -> Node:
    """Checks, the step, the run's expected time and the memory."""
    checks = [
        el("li", el("span.chip.good", "fits") if check["is_ok"] else el("span.chip.bad", "problem"),
           " ", el("b", check["name"]), ": ", check["text"])
        for check in found["checks"]
    ]  # fmt: skip
    return el(
        "section",
        el("h2", "One step, measured"),
        el("div.notice.warn", f"Measured while {', '.join(others)} was at work; alone it is "
           "faster.") if others else None,
        _numbers(found) if "step" in found else failed(
            "No step was taken; training would fail at the problem below."),
        el("h3", "Do the parts fit together?"),
        el("ul.checks", checks),
    )  # fmt: skip


def _numbers(found: Mapping[str, Any]) -> Node:
    step = found["step"]
    low, high = found["seconds"]
    share = found["peak_bytes"] / max(1, found["memory_bytes"])
    terms = "cross-entropy and KL" if found["has_kl"] else "cross-entropy alone"
    whole = words.span(low, high) if found["is_whole"] else f"over {words.duration(low)}"
    loss = f", loss {words.number(step['policy/loss'])}" if step else ""
    seconds = words.seconds(step.get("time/step_seconds"))
    return el(
        "div",
        el(
            "div.facts",
            fact("One optimiser step", seconds, terms + loss),
            fact("The whole run", whole, f"on {found['device']}, {found['dtype']}"),
            fact("Peak memory", size(found["peak_bytes"]),
                  f"{share:.0%} of {size(found['memory_bytes'])}, of which "
                  f"{size(found['free_bytes'])} were free"),
        ),
        _scarce(found),
        None if found["is_whole"] else el(
            "div.notice", f"{found['method']} draws or computes more than this in each step or "
            "round, which is not measured here."),
        el("details", el("summary", "What the time is made of"), _work(found["work"]),
           el("p.side", NOT_COUNTED)),
    )  # fmt: skip


def _scarce(found: Mapping[str, Any]) -> Node | None:
    """That others hold memory which the run would need; nothing where enough was free."""
    peak, free = found["peak_bytes"], found["free_bytes"]
    if peak <= free:
        return None
    return el(
        "div.notice.warn", f"The step took {size(peak)} at its peak, and {size(free)} were free on "
        f"{found['device']} before it; the run may end out of memory. End what else uses it, or "
        "lower optimizer.micro_batch_size or sampling.batch_size.", role="status",
    )  # fmt: skip


def _work(work: Sequence[Mapping[str, Any]]) -> Node:
    rows = [[part["what"], f"{part['n']:,}", words.span(part["low"], part["high"])]
            for part in work]  # fmt: skip
    return table(["Work", "Number", "Time"], rows, caption="Expected work", numeric={1, 2})


def _underway(steps: Sequence[Step]) -> Node:
    """What is done and what happens now, with the way out."""
    ends = [begun for _, begun in steps[1:]]
    lines = [
        el("li.done", f"{what}, {words.seconds(end - begun)}")
        for (what, begun), end in zip(steps, ends, strict=False)
    ]
    return el(
        "section.underway",
        el("h2", "Trying it out"),
        el(
            "ol.plain",
            lines,
            el(
                "li",
                el("b", f"{steps[-1][0]} … ", role="status"),
                el("span.side", data_ticking=True),
                key=steps[-1][0],
            ),
        ),
        el("button.do", "Cancel", type="button", **act("withdraw")),
    )


def _others(bench: Workbench) -> list[str]:
    """What else is at work now and makes measured times longer than they need be."""
    found = [run.title for run in bench.reader.runs() if run.state.is_live]
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    if not found and load > BUSY * cores:
        found = [f"other work (load {load:.1f} on {words.count(cores, 'core')})"]
    return found


def shown(found: Mapping[str, Any]) -> Node:
    """Problems, or prompts, corpora with samples, and what the run will need."""
    if found["problems"]:
        items = [el("li", problem) for problem in found["problems"]]
        return failed(el("b", "The run could not start."), el("ul", items))
    prompts = ", ".join(f"{n:,} {split}" for split, n in found["prompts"].items())
    rows = [_row(corpus) for corpus in found["corpora"]]
    return el(
        "section",
        el("h2", "What it will read"),
        el("p.side", f"Prompts: {prompts}. ", _need(found)),
        table(["Corpus", "Domain", "Documents", "Too short", "Cut"], rows, caption="Corpora",
              numeric={2, 3, 4}),
        [_samples(corpus) for corpus in found["corpora"] if corpus.get("samples")],
    )  # fmt: skip


def _row(corpus: Mapping[str, Any]) -> list[Node]:
    if "note" in corpus:
        return [el("code", corpus["source"]), corpus["domain"], el("span.side", corpus["note"]),
                words.DASH, words.DASH]  # fmt: skip
    sizes = " / ".join(f"{n:,}" for n in corpus["documents"].values())
    of = f" of {corpus['n_looked_at']:,}"
    return [el("code", corpus["source"]), corpus["domain"], sizes,
            f"{corpus['n_dropped']:,}{of}", f"{corpus['n_cut']:,}{of}"]  # fmt: skip


def _need(found: Mapping[str, Any]) -> str:
    free = f"{size(found['free_bytes'])} of disk are free"
    expected = found["expected"]
    if expected is None:
        return f"No finished run resembles this one to tell time and size from; {free}."
    return (
        f"Like {words.count(len(expected['runs']), 'earlier run')}: about "
        f"{words.duration(expected['seconds'])} and {size(expected['bytes'])}; {free}."
    )


def _samples(corpus: Mapping[str, Any]) -> Node:
    texts = [_sample(sample) for sample in corpus["samples"]]
    return el(
        "details",
        el("summary", f"{corpus['source']}: what the loss sees of {len(texts)} texts"),
        el("p.side", LEGEND, " Texts of a corpus may be offensive."),
        texts,
    )


def _sample(tokens: Sequence[Mapping[str, Any]]) -> Node:
    hot = hot_tokens([str(token["text"]) for token in tokens])
    return el("p.sample", [_token(*each) for each in zip(tokens, hot, strict=True)])


def _token(token: Mapping[str, Any], is_hot: bool) -> Node:  # noqa: FBT001
    kind = "kl" if token["in_kl"] else "ce" if token["in_ce"] else "read"
    text = str(token["text"])
    return el(f"span.seen.{kind}", veiled(text) if is_hot else text)
