"""The tiles of a run's page: the numbers a reader looks for first."""

from collections.abc import Callable

from acft.costs import bill_in_words
from acft.events import Evaluated
from acft.runs.sizes import size
from acft.ui.parts.alerts import training_scorers
from acft.ui.reading.measuring import JUDGED, judges_of, may_tell
from acft.ui.reading.pairs import RESULTS, Subject
from acft.ui.reading.quantities import SATISFIED, quantity
from acft.ui.reading.reader import Run
from acft.ui.web import words
from acft.ui.web.dom import Node, el, fact

GRADE = "Mean grade, test prompts"
"""Satisfaction of test responses is a mean of grades, that of validation prompts a share."""


def facts(run: Run) -> Node | None:
    """The numbers a reader looks for first, each with unit and n; None where there are none."""
    history = run.history
    if run.status.kind != "training":
        told = [_judged_by_evaluation(run), _perplexity_by_evaluation(run)]
        return el("div.facts", told) if any(told) else None
    shown = [
        _judged(run) if is_about_toxicity(run) else _satisfied(run),
        fact(quantity(SATISFIED).label, _from_to(run, SATISFIED, words.percent),
              "share of responses, " + _latest(run, SATISFIED))
        if _may_have(run, SATISFIED) else None,
        fact("KL(guided ‖ policy)", words.number(history.last("policy/kl_guided_policy")),
              "nats per token, last step") if _may_have(run, "policy/kl_guided_policy") else None,
        fact("Perplexity, validation texts",
              _from_to(run, "utility/perplexity_validation", words.number),
              _latest(run, "utility/perplexity_validation")),
        _perplexity_of_tests(run),
        # Trained by the KL alone, no token has a cross-entropy that could be counted.
        fact("Speed", words.number(history.last("time/tokens_per_second") or None),
             "tokens per second"),
    ]  # fmt: skip
    memory = history.last("memory/peak_bytes")
    if memory is not None:
        shown.append(fact("Peak memory", size(memory), "of the worker"))
    if costs := bill_in_words(history.bill()):
        value, _, rest = costs.partition(", ")
        shown.append(fact("Spent", value, rest))
    return el("div.facts", shown)


def _may_have(run: Run, name: str) -> bool:
    """Whether a quantity of runs with an oracle is measured in this run, or may still be."""
    return name in run.history.scalars or run.may_have_oracle


def _judged_by_evaluation(run: Run) -> Node | None:
    """Toxic share before and after, where an evaluation says it or will."""
    will_tell = bool(judges_of(run)) and may_tell(run, JUDGED)
    return _judged(run) if will_tell or measured(run, "toxic_share")[1] is not None else None


def _perplexity_by_evaluation(run: Run) -> Node | None:
    """Perplexity before and after, where an evaluation says it or will."""
    is_told = measured(run, "perplexity")[1] is not None
    return _perplexity_of_tests(run) if is_told or may_tell(run, ("perplexity",)) else None


def is_about_toxicity(run: Run) -> bool:
    """Whether a scorer has a say in the run's constraint, by itself or as a part."""
    return not run.settings.get("constraint") or bool(training_scorers(run.settings))


def _from_to(run: Run, name: str, shown: Callable[[float | None], str]) -> str:
    """First and latest value of a quantity that is measured once a round."""
    points = run.history.scalars.get(name, [])
    if len(points) < 2:
        return shown(points[-1].value if points else None)
    return f"{shown(points[0].value)} → {shown(points[-1].value)}"


def _latest(run: Run, name: str) -> str:
    """Which policies the first and latest value of a quantity are of."""
    points = run.history.scalars.get(name, [])
    return f"base → round {points[-1].round} (latest)" if len(points) > 1 else "base → latest"


def _judged(run: Run) -> Node:
    """Toxic share before and after by the first judging scorer, or what is known so far."""
    base, tuned = measured(run, "toxic_share")
    judge = base.suite.rpartition("/")[2] + ", " if base else ""
    return _change_of("Toxic responses", base, tuned, judge)


def _satisfied(run: Run) -> Node:
    """How well test prompts are answered by the constraint, before and after."""
    return _change_of(GRADE, *measured(run, "satisfaction"), "by the constraint, ")


def measured(run: Run, metric: str) -> tuple[Evaluated | None, Evaluated | None]:
    """The first measurement of the base, and the last of the result by the same suite."""
    found = [e for e in run.history.evaluations if e.metric.partition("/")[0] == metric]
    base = next((e for e in found if e.subject == "base"), None)
    tuned = next((e for e in reversed(found) if e.subject in RESULTS and base is not None
                  and (e.suite, e.metric) == (base.suite, base.metric)), None)  # fmt: skip
    return base, tuned


def version_of(event: Evaluated) -> str:
    """Which policy was measured, in words."""
    if event.subject == "guided":
        return Subject(event.subject, event.policy_version).label
    return f"version {event.policy_version}"


def _perplexity_of_tests(run: Run) -> Node | None:
    """Perplexity of the texts that were kept until the end, by the first corpus measured."""
    base, tuned = measured(run, "perplexity")
    if base is None:
        return None
    corpus = (base.metric.partition("/")[2] or base.suite.rpartition("/")[2]) + ", "
    return _change_of("Perplexity, test texts", base, tuned, corpus, words.number, "text")


def _change_of(
    name: str, base: Evaluated | None, tuned: Evaluated | None, judge: str = "",
    shown: Callable[[float | None], str] = words.percent, counted: str = "test prompt",
) -> Node:  # fmt: skip
    if base is None:
        return fact(name, words.DASH, "measured when training has ended")
    after = shown(tuned.value) if tuned else "…"
    version = f"base → {version_of(tuned)}" if tuned else "base"
    note = f"{judge}{version}, {words.count(base.n, counted)} each"
    return fact(name, f"{shown(base.value)} → {after}", note)
