"""The same prompts answered by two policies: texts, scores, and how sure a difference is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from acft.schema import SATISFIED_ABOVE, TOXIC_FROM
from acft.statistics import Interval
from acft.totals import Totals, interval, ratio_bootstrap, ratio_difference
from acft.ui.reading.answers import Response

RESULTS = ("policy", "guided")
"""Subjects of what methods make: a tuned policy, or one that is guided while it draws."""
TIE = 0.05
"""Scores closer than this are called equal."""
CONSTRAINT = "the constraint"
"""Stands among scorers for the run's constraint itself, whose grades are better the higher."""


@dataclass(frozen=True)
class Subject:
    """Whose responses are meant."""

    subject: str
    """base, policy or guided."""
    version: int

    @property
    def key(self) -> str:
        """Short name for addresses."""
        return f"{self.subject}.{self.version}"

    @property
    def label(self) -> str:
        """What the column is called."""
        if self.subject == "base" or (self.subject == "policy" and self.version == 0):
            return "base"
        if self.subject == "guided" and self.version == 0:
            return "guided base"
        name = "tuned" if self.subject == "policy" else self.subject
        return f"{name}, version {self.version}"

    @property
    def is_result(self) -> bool:
        """Whether a method made it."""
        return self.subject in RESULTS and self.label != "base"


def value(answer: Response, scorer: str) -> float | None:
    """What a scorer or the constraint says of a response; None where it says nothing."""
    if scorer != CONSTRAINT:
        return answer.scores.get(scorer)
    grade = answer.satisfaction
    return None if grade is None or math.isnan(grade) else grade


def is_bad(answer: Response, scorer: str, threshold: float = TOXIC_FROM) -> bool:
    """Whether a scorer calls a response toxic, or the constraint is violated."""
    found = value(answer, scorer)
    if found is None:
        return False
    return found <= SATISFIED_ABOVE if scorer == CONSTRAINT else found >= threshold


@dataclass(frozen=True)
class Pair:
    """Two responses to the same prompt with the same random numbers."""

    left: Response
    right: Response

    def change(self, scorer: str) -> float | None:
        """Score on the right minus score on the left; None where it did not judge both."""
        left, right = value(self.left, scorer), value(self.right, scorer)
        return None if left is None or right is None else right - left

    def gain(self, scorer: str) -> float:
        """How much better the right side is: less toxic, or more of the constraint satisfied.

        0 where it did not judge both: nothing says which one is.
        """
        change = self.change(scorer) or 0.0
        return change if scorer == CONSTRAINT else -change


@dataclass(frozen=True)
class Verdict:
    """One scorer's opinion of both sides, intervals over prompts.

    Shares are of toxic responses; where it is the constraint's, of those that violate it.
    """

    scorer: str
    n_prompts: int
    n_responses: int
    mean_left: float
    mean_right: float
    share_left: Interval
    share_right: Interval
    share_change: Interval
    any_left: float
    """Share of prompts with at least one such response."""
    any_right: float
    wins: int
    ties: int
    losses: int


def subjects(answers: Sequence[Response]) -> list[Subject]:
    """Everything that answered, base first, then by version."""
    found = {Subject(answer.subject, answer.version) for answer in answers}
    return sorted(found, key=lambda s: (s.subject != "base", s.version, s.subject))


def pair_up(
    answers: Sequence[Response],
    left: Subject,
    right: Subject,
    others: Sequence[Response] | None = None,
    drawing: int = 0,
) -> list[Pair]:
    """Responses to the same prompt and sample number of one drawing, in order of prompts.

    Args:
        answers: Responses among which are those of ``left``.
        left: First policy.
        right: Second policy.
        others: Responses among which are those of ``right``; the same ones when not given.
        drawing: Which one of prompts that suites have drawn several times, from 0; of prompts drawn
            less often their last one.
    """
    firsts = _of_drawing(answers, left, drawing)
    seconds = _of_drawing(answers if others is None else others, right, drawing)
    return [Pair(answer, seconds[key]) for key, answer in firsts.items() if key in seconds]


def n_drawings(answers: Sequence[Response], wanted: Subject) -> int:
    """In how many ways a policy has answered the same prompts; 0 where it answered none."""
    return max(map(len, _rounds(answers, wanted).values()), default=0)


def _of_drawing(
    answers: Sequence[Response], wanted: Subject, drawing: int
) -> dict[tuple[str, int], Response]:
    """The responses by prompt and sample; suites follow each other in one order for each policy."""
    rounds = _rounds(answers, wanted)
    taken = {prompt: found[min(drawing, len(found) - 1)] for prompt, found in rounds.items()}
    return {
        (a.prompt_id, a.sample): a for a in _of(answers, wanted) if a.round == taken[a.prompt_id]
    }


def _rounds(answers: Sequence[Response], wanted: Subject) -> dict[str, list[int]]:
    """In which rounds a policy answered each prompt."""
    found: dict[str, set[int]] = {}
    for answer in _of(answers, wanted):
        found.setdefault(answer.prompt_id, set()).add(answer.round)
    return {prompt: sorted(rounds) for prompt, rounds in found.items()}


def _of(answers: Sequence[Response], wanted: Subject) -> list[Response]:
    return [a for a in answers if (a.subject, a.version) == (wanted.subject, wanted.version)]


def both_judged(pairs: Sequence[Pair], scorer: str) -> list[tuple[Pair, float, float]]:
    """The pairs of which a scorer, or the constraint, judged both sides, with what it says."""
    judged = [(p, value(p.left, scorer), value(p.right, scorer)) for p in pairs]
    return [(p, a, b) for p, a, b in judged if a is not None and b is not None]


def verdict(pairs: Sequence[Pair], scorer: str, threshold: float = TOXIC_FROM) -> Verdict | None:
    """What one scorer says about two policies; None when it scored nothing."""
    known = both_judged(pairs, scorer)
    if not known:
        return None
    groups = [p.left.prompt_id for p, _, _ in known]
    toxic_left = Totals.of_rows(groups, [is_bad(p.left, scorer, threshold) for p, _, _ in known])
    toxic_right = Totals.of_rows(groups, [is_bad(p.right, scorer, threshold) for p, _, _ in known])
    gains = [p.gain(scorer) for p, _, _ in known]
    return Verdict(
        scorer=scorer,
        n_prompts=toxic_left.n,
        n_responses=len(known),
        mean_left=fmean(a for _, a, _ in known),
        mean_right=fmean(b for _, _, b in known),
        share_left=interval(toxic_left),
        share_right=interval(toxic_right),
        share_change=ratio_bootstrap([toxic_left, toxic_right], ratio_difference, are_shares=True),
        any_left=(toxic_left.sums > 0).mean(),
        any_right=(toxic_right.sums > 0).mean(),
        wins=sum(gain > TIE for gain in gains),
        ties=sum(abs(gain) <= TIE for gain in gains),
        losses=sum(gain < -TIE for gain in gains),
    )


def scorer_names(pairs: Sequence[Pair]) -> list[str]:
    """Scorers that scored both sides of any pair, sorted."""
    return sorted({name for pair in pairs for name in pair.left.scores.keys() & pair.right.scores})
