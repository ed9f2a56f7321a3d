"""Fresh responses of base, tuned and guided policy to a typed prompt, growing side by side."""

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from acft.errors import AcftError, RunError
from acft.inference.client import OperationError
from acft.inference.limits import bounded
from acft.ui.page import Visit, Workbench
from acft.ui.parts import numbers
from acft.ui.parts.live import (
    WAITING,
    ask,
    follow,
    may_compute,
    preferred_version,
    refusal,
    version_menu,
    versions,
)
from acft.ui.parts.side_by_side import verdict
from acft.ui.reading.reader import Run
from acft.ui.web.dom import Node, act, choose, el, veil

CONDITIONS = {"samples": (2, 1, 8), "seed": (0, 0, 2**31), "horizon": (20, 1, 200)}
"""Whole numbers a reader may choose: default, smallest, largest."""

BEST_OF_N, CANDIDATES = "best_of_n", 8
UNTRAINED = {
    BEST_OF_N: f"base, the best of {CANDIDATES}",
    "rad": "base, reward-augmented decoding (top-p 1)",
}
"""Decoders of the base that train nothing, by name, as what stands beside the run's policies."""
SPACE_SECONDS = 120.0
"""On a public Space others wait for the same two cores."""
TOO_SLOW = (
    f"this public Space ends an answer after {SPACE_SECONDS:g} s, so that others get their turn; "
    "ask for fewer samples or a shorter horizon, or run the workbench yourself"
)
ANSWERING, DONE = "Answering …", "Done."
UNFINISHED = "Not all was answered and judged."


@dataclass
class Attempt:
    """One prompt answered by all sides."""

    prompt: str
    sides: list[dict[str, Any]]
    conditions: dict[str, Any]
    texts: list[list[str]] = field(default_factory=list)
    judged: dict[int, dict[str, Any]] = field(default_factory=dict)
    """By number of a side, as ``judge`` tells it: grades of the constraint and scores."""
    faults: dict[int, str] = field(default_factory=dict)
    """By number of a side, what kept that one from answering or from being judged."""
    weights: list[dict[str, Any]] = field(default_factory=list)
    """What answered each side, as the answering process tells it; empty until it does."""
    proof: dict[str, Any] | None = None
    status: str = ANSWERING
    fault: str = ""
    """What kept it as a whole from being answered or judged, or its weights from being tested."""


def controls(bench: Workbench, visit: Visit, run: Run) -> Node:
    """Who answers, under which conditions, and the proof that they are who they claim to be."""
    chosen = version_of(visit, run)
    tuned = version_menu(run, chosen, "base only", **act("refresh"))
    fields = numbers.fields(visit, CONDITIONS, "live", "refresh")
    note = None if may_compute(bench, visit) else el("div.notice.warn", refusal(bench))
    return el(
        "div",
        el("p.side", "Base, tuned and guided policy answer with the same random numbers, sampled "
           "at temperature 1, top-p 0.9. The models are opened in a process of their own.",
           f" Here an answer has {SPACE_SECONDS:g} s." if bench.bind.is_space else None),
        note,
        other_version(visit, run),
        el("div.toolbar", el("label.side", "Tuned: ", tuned),
           _guided_menu(visit, chosen) if chosen else None, _beside_menu(visit), fields),
    )  # fmt: skip


def _beside_menu(visit: Visit) -> Node:
    menu = choose([("", "nothing more"), *UNTRAINED.items()], _beside(visit), "Beside them",
                  data_query="live_beside", **act("refresh"))  # fmt: skip
    return el("label.side", "Beside them: ", menu)


def _beside(visit: Visit) -> str:
    """The decoder that answers as well; empty for none."""
    asked = visit.query.get("live_beside", "")
    return asked if asked in UNTRAINED else ""


def _guided_menu(visit: Visit, version: int) -> Node:
    chosen = "" if guided_version(visit, version) else "base"
    menu = choose([("", "tuned"), ("base", "base")], chosen, "Policy that is guided",
                  data_query="live_guided", **act("refresh"))  # fmt: skip
    return el("label.side", "Oracle guides: ", menu)


def version_of(visit: Visit, run: Run) -> int:
    """The policy version asked for; by default the one that is measured and exported."""
    text = visit.query.get("live_version", "")
    return next((v for v in versions(run) if str(v) == text), preferred_version(run))


def other_version(visit: Visit, run: Run) -> Node | None:
    """That the version of the address is not there and which is taken instead; else nothing."""
    asked, taken = visit.query.get("live_version", ""), version_of(visit, run)
    if asked in ("", str(taken)):
        return None
    there = ", ".join(str(v) if v else "0 (base)" for v in versions(run))
    return el("div.notice.warn", f"Version {asked[:40]!r} of the address is not there (there are: "
              f"{there}); version {taken} is taken instead.", role="alert")  # fmt: skip


def conditions(visit: Visit) -> dict[str, int]:
    """The chosen whole numbers.

    Raises:
        ConfigError: One is no whole number or out of range.
    """
    return numbers.chosen(visit, CONDITIONS, "live")


def answers(
    bench: Workbench, visit: Visit, run: Run, prompt: str
) -> Iterator[tuple[Node, Attempt]]:
    """The page's part while texts grow, and what it shows; ends with scores or with a fault.

    Raises:
        DataError: The prompt is too long; models need not be opened to say so.
    """
    bounded("prompt", prompt)
    version = version_of(visit, run)
    sides = _sides(version, guided_version(visit, version), _beside(visit))
    attempt = Attempt(
        prompt, sides, conditions(visit), [[] for _ in sides], weights=[{} for _ in sides]
    )
    doing = "Asking" if bench.model_process.has_opened(run.run_id) else "Opening"
    yield _doing(f"{doing} the models"), attempt
    began = time.monotonic()
    try:
        unproved = _prove(bench, visit, run, attempt, version)
        yield shown(attempt), attempt
        for number in range(len(sides)):
            yield from _answered(bench, visit, run, attempt, number, began)
        for number in [n for n in range(len(sides)) if n not in attempt.faults]:
            _judge(bench, visit, run, attempt, number)
    except AcftError as error:
        # Nothing is judged then: it would open models that a run may just have made give way.
        attempt.status, attempt.fault = UNFINISHED, str(error)
    else:
        _conclude(attempt, unproved)
    yield shown(attempt), attempt


def _prove(bench: Workbench, visit: Visit, run: Run, attempt: Attempt, version: int) -> str:
    """Why the weights could not be tested; where they could, the attempt has the proof."""
    if not version:
        return ""
    try:
        attempt.proof = ask(bench, visit, "identify", run, version=version)
    except OperationError as error:
        return str(error)  # the base may answer all the same
    return ""


def _answered(
    bench: Workbench, visit: Visit, run: Run, attempt: Attempt, number: int, began: float
) -> Iterator[tuple[Node, Attempt]]:
    """The page's part while one side's texts grow; what goes wrong with it is that side's fault."""
    parts = follow(
        bench, visit, "generate", run, prompt=attempt.prompt, sides=[attempt.sides[number]],
        **attempt.conditions,
    )  # fmt: skip
    try:
        with closing(parts):  # which ends the drawing, too, where it takes too long
            for part in _in_time(bench, parts, began):
                attempt.texts[number] = part["texts"]
                attempt.weights[number] = part.get("weights") or {}
                yield shown(attempt), attempt
    except OperationError as error:
        attempt.faults[number] = str(error)
        yield shown(attempt), attempt


def _judge(bench: Workbench, visit: Visit, run: Run, attempt: Attempt, number: int) -> None:
    """Has one side judged, or keeps why it could not be."""
    texts = attempt.texts[number]
    try:
        attempt.judged[number] = ask(bench, visit, "judge", run, prompt=attempt.prompt, texts=texts)
    except OperationError as error:
        attempt.faults[number] = f"not judged: {error}"


def _conclude(attempt: Attempt, unproved: str) -> None:
    """Says how it ended; what is true of all sides is said once."""
    faults = list(attempt.faults.values())
    attempt.status = UNFINISHED if faults else DONE
    if unproved and unproved not in faults:
        attempt.fault = f"which weights answered could not be tested: {unproved}"
    if len(faults) == len(attempt.sides) and len(set(faults)) == 1:
        attempt.faults, attempt.fault = {}, faults[0]


def _in_time(bench: Workbench, parts: Iterable[Any], began: float) -> Iterator[Any]:
    """The parts that come before a public Space has given enough of its time.

    Raises:
        RunError: They took longer.
    """
    for part in parts:
        yield part
        if bench.bind.is_space and time.monotonic() - began > SPACE_SECONDS:
            raise RunError(TOO_SLOW)


def waiting() -> Node:
    """The page's part until it is this tab's turn."""
    return _doing(WAITING)


def _doing(what: str) -> Node:
    return el("p.side", el("span", f"{what} … ", role="status"), el("span", data_ticking=True),
              key=what)  # fmt: skip


def stopped(attempt: Attempt | None) -> Node:
    """What was there when the reader stopped it."""
    if attempt is None:
        return ""
    return shown(replace(attempt, status="Stopped.") if attempt.status == ANSWERING else attempt)


def guided_version(visit: Visit, version: int) -> int:
    """Version of the policy that the oracle guides: the tuned one, or 0 for the base."""
    return 0 if visit.query.get("live_guided") == "base" else version


def _sides(version: int, guided: int, beside: str) -> list[dict[str, Any]]:
    sides: list[dict[str, Any]] = [{"subject": "base", "version": 0}]
    if version:
        sides += [
            {"subject": "policy", "version": version},
            {"subject": "guided", "version": version, "weights": guided},
        ]
    if beside:
        of_several = {"candidates": CANDIDATES} if beside == BEST_OF_N else {}
        sides.append({"subject": beside, "version": 0, **of_several})
    return sides


def shown(attempt: Attempt) -> Node:
    """All sides as they are now."""
    fault = el("div.notice.bad", attempt.fault, role="alert") if attempt.fault else None
    is_ended = attempt.status != ANSWERING
    if is_ended and not any(attempt.texts) and not attempt.faults:
        return el("div", el("p.side", attempt.status, role="status"), fault)
    columns = []
    for number, side in enumerate(attempt.sides):
        judged, own = attempt.judged.get(number), attempt.faults.get(number)
        texts = [
            _judged(text, i, judged) if judged else _unjudged(text)
            for i, text in enumerate(attempt.texts[number])
        ]
        columns.append(
            el(f"div.live-side.{side['subject']}", el("h3", name_of(side)), badge(attempt, number),
               texts or el("p.side", "no answer" if is_ended or own else "…"),
               el("div.notice.bad", own, role="alert") if own else None)
        )  # fmt: skip
    facts = ", ".join(f"{name} {value}" for name, value in attempt.conditions.items())
    line = f"{attempt.status} {facts}, top-p 0.9, temperature 1."
    return el("div", el("p.side", line, role="status"), fault, el("div.live-grid", columns))


def _unjudged(text: str) -> Node:
    """Blurred like a toxic one until somebody knows better."""
    return el("div.live-text", ["veil", {"score": "not judged yet"}, text])


def _judged(text: str, number: int, judged: dict[str, Any]) -> Node:
    scores = {name: values[number] for name, values in judged["scores"].items()}
    told = " · ".join(f"{name} {value:.2f}" for name, value in scores.items())
    return el(
        "div.live-text",
        veil(text, max(scores.values(), default=None)),
        el("div.scores", verdict(judged["satisfaction"][number]), " ", told),
    )


def name_of(side: dict[str, Any]) -> str:
    """Who answers, and for a guided side also what guides whom."""
    version = side["version"]
    if side["subject"] == "base":
        return "base"
    if side["subject"] in UNTRAINED:
        return UNTRAINED[side["subject"]]
    if side["subject"] == "policy":
        return f"tuned version {version}"
    whom = f"tuned version {side['weights']}" if side["weights"] else "base"
    return f"{whom}, guided by the oracle of version {version}"


def badge(attempt: Attempt, number: int) -> Node | None:
    """Hash of the weights that wrote a side's texts and the verdict of the self-test."""
    proof, used = attempt.proof, attempt.weights[number]
    if proof is None or not used:
        return None
    passed = f"base and tuned differ by up to {proof['differs']:.3g} nats on a probe"
    if proof["restored"] is not None:
        passed += f"; switching the adapter off gives the base back within {proof['restored']:.1g}"
    outcome = el("span.chip.good", "self-test passed", title=passed)
    if not proof["is_proved"]:
        outcome = el("span.chip.bad", "self-test FAILED: these may not be the named weights")
    digest = str(used["sha256"])
    if digest != proof["tuned" if used["version"] else "base"]["sha256"]:
        outcome = el("span.chip.bad", "these are not the weights that the self-test proved")
    return el("p.side", el("code", f"sha256 {digest[:12]}…", title=digest), " ", outcome,
              f" {proof['dtype']}, {proof['device']}")  # fmt: skip
