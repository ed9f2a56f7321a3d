"""A regular expression occurs in the response, or does not."""

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import field_validator

from acft.config import Config
from acft.constraints.base import CONSTRAINTS, GetScorer, Grader, Grades


@CONSTRAINTS.add("pattern")
class PatternConstraint(Config):
    """A regular expression occurs in the response, or does not."""

    pattern: str
    """Python regular expression, looked for anywhere; a repeat inside a repeat can take forever."""
    must: Literal["occur", "not_occur"] = "occur"
    """Which of the two satisfies the constraint."""
    ignore_case: bool = True
    """Upper and lower case are the same."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern

    def scorer_names(self) -> tuple[str, ...]:
        """None."""
        return ()

    def describe(self) -> str:
        """Such as ``pattern '[0-9]+' must not occur``."""
        return f"pattern {self.pattern!r} must {self.must.replace('_', ' ')}"

    def grader(self, _get_scorer: GetScorer) -> Grader:
        """1 or 0."""
        compiled = re.compile(self.pattern, re.IGNORECASE if self.ignore_case else 0)
        wanted = self.must == "occur"

        def judge(_prompts: Sequence[str], responses: Sequence[str]) -> Grades:
            return [float(bool(compiled.search(text)) is wanted) for text in responses]

        return judge
