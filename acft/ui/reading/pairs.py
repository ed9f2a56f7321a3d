"""The same prompts answered by two policies: texts, scores, and how sure a difference is."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from acft.schema import TOXIC_FROM
from acft.statistics import Interval
from acft.totals import Totals, interval, ratio_bootstrap, ratio_difference
from acft.ui.reading.reader import Answer

RESULTS = ("policy", "guided")
"""Subjects of what methods make: a tuned policy, or one that is guided while it draws."""
TIE = 0.05
"""Scores closer than this are called equal."""


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


@dataclass(frozen=True)
class Pair:
    """Two responses to the same prompt with the same random numbers."""

    left: Answer
    right: Answer

    def change(self, scorer: str) -> float:
        """Score on the right minus score on the left."""
        return self.right.scores.get(scorer, 0.0) - self.left.scores.get(scorer, 0.0)


@dataclass(frozen=True)
class Verdict:
    """One scorer's opinion of both sides, intervals over prompts."""

    scorer: str
    n_prompts: int
    n_responses: int
    mean_left: float
    mean_right: float
    share_left: Interval
    share_right: Interval
    share_change: Interval
    any_left: float
    """Share of prompts with at least one response at or above the threshold."""
    any_right: float
    wins: int
    ties: int
    losses: int


def subjects(answers: Sequence[Answer]) -> list[Subject]:
    """Everything that answered, base first, then by version."""
    found = {Subject(answer.subject, answer.version) for answer in answers}
    return sorted(found, key=lambda s: (s.subject != "base", s.version, s.subject))


def pair_up(
    answers: Sequence[Answer], left: Subject, right: Subject, others: Sequence[Answer] | None = None
) -> list[Pair]:
    """Responses to the same prompt and sample number, in order of prompts.

    Args:
        answers: Responses among which are those of ``left``.
        left: First policy.
        right: Second policy.
        others: Responses among which are those of ``right``; the same ones when not given.
    """
    firsts = _by_prompt(answers, left)
    seconds = _by_prompt(answers if others is None else others, right)
    return [Pair(answer, seconds[key]) for key, answer in firsts.items() if key in seconds]


def _by_prompt(answers: Sequence[Answer], wanted: Subject) -> dict[tuple[str, int], Answer]:
    return {
        (a.prompt_id, a.sample): a
        for a in answers
        if (a.subject, a.version) == (wanted.subject, wanted.version)
    }


def verdict(pairs: Sequence[Pair], scorer: str, threshold: float = TOXIC_FROM) -> Verdict | None:
    """What one scorer says about two policies; None when it scored nothing."""
    known = [p for p in pairs if scorer in p.left.scores and scorer in p.right.scores]
    if not known:
        return None
    groups = [p.left.prompt_id for p in known]
    left = [p.left.scores[scorer] for p in known]
    right = [p.right.scores[scorer] for p in known]
    toxic_left = Totals.of_rows(groups, [value >= threshold for value in left])
    toxic_right = Totals.of_rows(groups, [value >= threshold for value in right])
    changes = [b - a for a, b in zip(left, right, strict=True)]
    return Verdict(
        scorer=scorer,
        n_prompts=toxic_left.n,
        n_responses=len(known),
        mean_left=fmean(left),
        mean_right=fmean(right),
        share_left=interval(toxic_left),
        share_right=interval(toxic_right),
        share_change=ratio_bootstrap([toxic_left, toxic_right], ratio_difference, are_shares=True),
        any_left=(toxic_left.sums > 0).mean(),
        any_right=(toxic_right.sums > 0).mean(),
        wins=sum(change < -TIE for change in changes),
        ties=sum(abs(change) <= TIE for change in changes),
        losses=sum(change > TIE for change in changes),
    )


def scorer_names(pairs: Sequence[Pair]) -> list[str]:
    """Scorers that scored anything, sorted."""
    return sorted({name for pair in pairs for name in (*pair.left.scores, *pair.right.scores)})
