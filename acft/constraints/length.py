"""The response is neither too short nor too long."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import model_validator

from acft.config import Config
from acft.constraints.base import CONSTRAINTS, GetScorer, Grader, Grades
from acft.settings import NonNegative


@CONSTRAINTS.add("length")
class LengthConstraint(Config):
    """The response is neither too short nor too long."""

    minimum: NonNegative = 0
    """Fewest words or characters; 0 = no limit."""
    maximum: NonNegative = 0
    """Most words or characters; 0 = no limit."""
    unit: Literal["words", "characters"] = "words"
    """Words are what white space separates; characters include white space."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Any:
        if not self.minimum and not self.maximum:
            raise ValueError("minimum and maximum are both 0, which allows everything; set one")
        if self.maximum and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is larger than maximum {self.maximum}")
        return self

    def scorer_names(self) -> tuple[str, ...]:
        """None."""
        return ()

    def describe(self) -> str:
        """Such as ``5 to 20 words``."""
        if not self.maximum:
            return f"at least {self.minimum} {self.unit}"
        if not self.minimum:
            return f"at most {self.maximum} {self.unit}"
        return f"{self.minimum} to {self.maximum} {self.unit}"

    def grader(self, _get_scorer: GetScorer) -> Grader:
        """1 inside the range; outside half the ratio of the length and the limit."""

        def judge(_prompts: Sequence[str], responses: Sequence[str]) -> Grades:
            return [self._grade(text) for text in responses]

        return judge

    def _grade(self, text: str) -> float:
        length = len(text.split()) if self.unit == "words" else len(text)
        if length < self.minimum:
            return 0.5 * length / self.minimum
        if self.maximum and length > self.maximum:
            return 0.5 * self.maximum / length
        return 1.0
