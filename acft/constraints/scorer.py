"""The score of the response stays below a threshold."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, field_validator

from acft.config import Config, checked
from acft.constraints.base import CONSTRAINTS, JUST_ABOVE_HALF, GetScorer, Grader, Grades
from acft.scorers import check_scorer_name


@CONSTRAINTS.add("scorer")
class ScorerConstraint(Config):
    """A scorer's value of the response stays below a threshold."""

    scorer: str
    """A registered scorer, or ``model:PATH#label`` for a local classification model."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Scores from here on violate the constraint."""
    soft: bool = True
    """Grade by the distance to the threshold instead of 0 or 1; the verdict is the same."""

    @field_validator("scorer")
    @classmethod
    def _is_known(cls, name: str) -> str:
        checked(check_scorer_name, name)
        return name

    def scorer_names(self) -> tuple[str, ...]:
        """The one scorer."""
        return (self.scorer,)

    def describe(self) -> str:
        """Such as ``jigsaw_tcc < 0.5``."""
        return f"{self.scorer} < {self.threshold:g}"

    def grader(self, get_scorer: GetScorer) -> Grader:
        """Judges the response alone; the prompt is not scored."""
        scorer = get_scorer(self.scorer)
        grade = soft_satisfaction if self.soft else hard_satisfaction

        def judge(_prompts: Sequence[str], responses: Sequence[str]) -> Grades:
            return [grade(score, self.threshold) for score in scorer.score(responses)]

        return judge


def hard_satisfaction(score: float, threshold: float) -> float:
    """1 below the threshold, else 0."""
    return float(score < threshold)


def soft_satisfaction(score: float, threshold: float) -> float:
    """1 at score 0, 0 at score 1, linear to 0.5 at the threshold; above 0.5 iff below it.

    With threshold 0.5 it is 1 - score.
    """
    if score < threshold:
        # just below the threshold the division would round to 0.5, the other verdict
        return max(1 - 0.5 * score / threshold, JUST_ABOVE_HALF)
    return 0.5 * (1 - score) / (1 - threshold)
