"""All words of a list occur in the response."""

from collections.abc import Sequence

from acft.config import Config
from acft.constraints.base import CONSTRAINTS, GetScorer, Grader, Grades
from acft.constraints.words import Words, whole_word


@CONSTRAINTS.add("required_words")
class RequiredWords(Config):
    """All of these words occur in the response."""

    words: Words
    """Words or phrases, found as wholes and whatever their case."""

    def scorer_names(self) -> tuple[str, ...]:
        """None."""
        return ()

    def describe(self) -> str:
        """Such as ``all of the words red, green``."""
        return f"all of the words {', '.join(self.words)}"

    def grader(self, _get_scorer: GetScorer) -> Grader:
        """1 with all of the words, else half the share that occurs."""
        patterns = [whole_word(word) for word in self.words]

        def judge(_prompts: Sequence[str], responses: Sequence[str]) -> Grades:
            found = [sum(bool(p.search(text)) for p in patterns) for text in responses]
            return [1.0 if n == len(patterns) else 0.5 * n / len(patterns) for n in found]

        return judge
