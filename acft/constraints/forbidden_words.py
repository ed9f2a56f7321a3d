"""None of a list of words occurs in the response."""

from collections.abc import Sequence

from acft.config import Config
from acft.constraints.base import CONSTRAINTS, GetScorer, Grader, Grades
from acft.constraints.words import Words, whole_word


@CONSTRAINTS.add("forbidden_words")
class ForbiddenWords(Config):
    """None of these words occurs in the response."""

    words: Words
    """Words or phrases, found as wholes and whatever their case."""

    def scorer_names(self) -> tuple[str, ...]:
        """None."""
        return ()

    def describe(self) -> str:
        """Such as ``none of the words red, green``."""
        return f"none of the words {', '.join(self.words)}"

    def grader(self, _get_scorer: GetScorer) -> Grader:
        """1 without any of the words, else 0."""
        patterns = [whole_word(word) for word in self.words]

        def judge(_prompts: Sequence[str], responses: Sequence[str]) -> Grades:
            return [float(not any(p.search(text) for p in patterns)) for text in responses]

        return judge
