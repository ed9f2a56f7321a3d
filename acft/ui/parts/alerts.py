"""What a reader of a run should be warned about, in plain words, with the step."""

import statistics
from dataclasses import dataclass
from typing import Any

from acft.events import POLICY
from acft.scorers import biases, related
from acft.ui.reading.measuring import judges_of
from acft.ui.reading.quantities import SATISFIED
from acft.ui.reading.reader import History, Run

WINDOW = 10
EXPLODES = 3.0


@dataclass(frozen=True)
class Alert:
    """One warning."""

    level: str
    """info or warning."""
    text: str
    step: int = 0


def alerts(run: Run) -> list[Alert]:
    """What to beware of: first of the whole run, then by step, newest first."""
    history = run.history
    found = [Alert(note.level, note.text, note.step) for _, note in history.notes]
    for check in (_kl_explodes, _oracle_is_useless, _satisfaction_falls, _texts_pay, _saturated):
        found.extend(check(history))
    return [*_same_judge(run), *sorted(found, key=lambda alert: -alert.step)]


def _kl_explodes(history: History) -> list[Alert]:
    points = history.scalars.get("policy/kl_guided_policy", [])
    if len(points) < 2 * WINDOW:
        return []
    kls = [point.value for point in points]
    # a few texts of a step carry most of it, so healthy runs leap as far as they ever did
    now, highest = statistics.median(kls[-WINDOW:]), max(kls[:-WINDOW])
    if now <= highest or now < EXPLODES * statistics.fmean(kls[-2 * WINDOW : -WINDOW]):
        return []
    return [
        Alert(
            "warning",
            f"KL(guided ‖ policy) is {now:.3g} nats over the last {WINDOW} steps and was "
            f"{highest:.3g} at most before; a lower learning rate or KL weight may help",
            points[-1].step,
        )
    ]


def _oracle_is_useless(history: History) -> list[Alert]:
    if not history.calibrations:
        return []
    last = history.calibrations[-1].metrics
    brier, constant = last.get("brier"), last.get("brier_constant")
    if brier is None or constant is None or brier < constant:
        return []
    text = (
        f"the oracle predicts no better than a constant (Brier {brier:.3f} against "
        f"{constant:.3f}); more rollouts per round, or more epochs, may help"
    )
    return [Alert("warning", text, _last_step(history))]


def _satisfaction_falls(history: History) -> list[Alert]:
    points = history.scalars.get(SATISFIED, [])
    if len(points) < 3 or not points[-1].value < points[-2].value < points[-3].value:
        return []
    text = (
        f"satisfaction on validation prompts fell twice in a row, from {points[-3].value:.1%} to "
        f"{points[-1].value:.1%}"
    )
    return [Alert("warning", text, points[-1].step)]


def _texts_pay(history: History) -> list[Alert]:
    perplexity = history.scalars.get("utility/perplexity_validation", [])
    satisfied = history.scalars.get(SATISFIED, [])
    if len(perplexity) < 2 or len(satisfied) < 2 or perplexity[0].value <= 0:
        return []
    rise = perplexity[-1].value / perplexity[0].value - 1
    if rise < 0.03 or satisfied[-1].value <= satisfied[0].value:
        return []
    text = (
        f"satisfaction rises, but so did the perplexity of held-out text, by {rise:.1%} against "
        "the base: the policy pays with fluency"
    )
    return [Alert("warning", text, perplexity[-1].step)]


def _saturated(history: History) -> list[Alert]:
    kls = [point.value for point in history.scalars.get("policy/kl_guided_policy", [])]
    satisfied = history.last(SATISFIED)
    if len(kls) < WINDOW or satisfied is None or satisfied > 0.95:
        return []
    # one step's texts may hold nothing to guide away from
    kl = statistics.fmean(kls[-WINDOW:])
    if kl > 1e-3:
        return []
    text = (
        f"guidance is absorbed (KL {kl:.2g} nats) although satisfaction is only {satisfied:.1%}; "
        "a stronger oracle or a new round is needed, more steps will not help"
    )
    return [Alert("warning", text, _last_step(history))]


def training_scorers(settings: dict[str, Any]) -> set[str]:
    """Names of the scorers that have a say in the constraint, whole or with a part they share."""
    return related(_scorers(settings))


def _scorers(settings: dict[str, Any]) -> set[str]:
    """Those that the constraint names."""

    def named(part: object) -> set[str]:
        if isinstance(part, list):
            return set().union(*map(named, part))
        if not isinstance(part, dict):
            return set()
        own = {str(part["scorer"])} if part.get("scorer") else set()
        return own.union(*map(named, part.values()))

    return named(settings.get("constraint") or [])


def _same_judge(run: Run) -> list[Alert]:
    return [
        Alert("warning", f"{bias}; its own scores say little about other detectors")
        for bias in biases(_scorers(run.settings), judges_of(run))
    ]


def _last_step(history: History) -> int:
    of_policy = [points for name, points in history.scalars.items() if name.startswith(POLICY)]
    return max((points[-1].step for points in of_policy), default=0)
