"""What a suite is: it measures one policy, and says how two of its results compare.

A suite yields events and the responses it drew, and returns measurements as totals. Totals are kept
by prompt, so that policies measured at different times can still be compared in pairs.
"""

from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from acft.config import Config
from acft.constraints import Constraint
from acft.decoding.base import Sampler
from acft.distributed import settled
from acft.errors import ModelError
from acft.evaluation import Label, compare, evaluated, scorer_versions
from acft.events import Evaluated, Event
from acft.likelihood import Judge
from acft.policy import Policy
from acft.registry import Registry, summary_of
from acft.scorers import Scorer
from acft.settings import CorpusSettings, PromptSettings, RunSettings
from acft.statistics import Interval
from acft.totals import Totals
from acft.types import Prompt, ScoredRollout

Measured = dict[str, Totals]
"""Totals by name; names as in ``evaluation.py``."""
Work = dict[tuple[str, str], int]
"""How much a suite does for one policy at most, by unit and by settings: what two suites do under
the same settings is done once."""
DRAWN, READ, JUDGED, ANSWERED = "drawn", "read", "judged", "answered"
"""Units of work: responses drawn and scored, texts read by the policy, responses read by the judge
model, questions of which every answer is read."""


NOT_OF_DECODERS = (
    "its decoder draws from another distribution than the policy, whose answers are not its own"
)
NO_LIKELIHOODS = "its decoder does not say how likely a given text is"


@dataclass(frozen=True)
class Responses:
    """Responses that a suite drew, to be kept by whoever runs it."""

    subject: str
    prompts: Sequence[Prompt]
    scored: Sequence[ScoredRollout]
    how: str = ""
    """Settings of the drawing; the same ones draw the same responses."""


SuiteOutput = Event | Responses


@dataclass
class Bench:
    """One policy on the bench, with everything a suite may use."""

    run: RunSettings
    policy: Policy
    """The policy itself, without a decoder."""
    sampler: Sampler
    """Draws responses: the policy, or the policy with a decoder."""
    subject: str
    judges: Sequence[Scorer]
    """Scorers to be asked; see ``scorers``."""
    get_judge: Callable[[], Judge]
    """Raises ``ConfigError`` when no judge model was named."""
    get_base: Callable[[], Policy]
    """The base policy, opened when first asked for."""
    constraint: Constraint | None = None
    seed: int = 0
    """The same for all policies that are to be compared."""
    round: int = 0
    """Finished suites so far, for progress."""
    should_stop: Callable[[], bool] = lambda: False
    failed: dict[str, ModelError] = field(default_factory=dict)
    """Errors of scorers that did not load, or failed on this policy's responses and are asked no
    more."""
    control: str = ""
    """Text that the policy puts before every prompt and document by itself."""
    memo: dict[Hashable, Any] = field(default_factory=dict)
    """Results that several suites use, for this policy only."""

    @property
    def scorers(self) -> list[Scorer]:
        """The judging scorers that have not failed."""
        return [scorer for scorer in self.judges if scorer.name not in self.failed]

    @property
    def reader(self) -> Judge | None:
        """What says how likely texts are to be drawn; None with a decoder that cannot say it."""
        return self.sampler if isinstance(self.sampler, Judge) else None

    def stops(self) -> bool:
        """Whether to end now; several processes ask it together."""
        return settled(self.should_stop)

    def label(self, suite: str) -> Label:
        """Origin of this policy's events."""
        versions = scorer_versions(self.scorers)
        return Label(suite, self.subject, self.policy.version, versions, self.seed)


@runtime_checkable
class Run(Protocol):
    """Measures the policy on the bench with the suite's settings."""

    def __call__(self, settings: Any, bench: Bench, /) -> Generator[SuiteOutput, None, Measured]:
        """Yields progress and responses; returns the measurements."""
        ...


@runtime_checkable
class Report(Protocol):
    """Events about one policy's measurements."""

    def __call__(self, measured: Mapping[str, Totals], label: Label, /) -> list[Evaluated]:
        """One event for each number."""
        ...


@runtime_checkable
class Compare(Protocol):
    """Events that compare a policy with base and, where there is one, control."""

    def __call__(
        self,
        base: Mapping[str, Totals],
        policy: Mapping[str, Totals],
        label: Label,
        control: Mapping[str, Totals] | None = None,
        /,
    ) -> list[Evaluated]:
        """One event for each comparison."""
        ...


TextSource = PromptSettings | CorpusSettings
"""Where texts come from."""


@runtime_checkable
class Difference(Protocol):
    """The difference between two sides of one or several runs each."""

    def __call__(
        self,
        metric: str,
        first: Sequence[Mapping[str, Totals]],
        second: Sequence[Mapping[str, Totals]],
        /,
    ) -> Interval:
        """Second minus first in a metric of the suite's events; in the metric's own unit."""
        ...


@dataclass(frozen=True)
class Suite:
    """A registered suite."""

    settings_type: type[Config]
    run: Run
    report: Report = evaluated
    compare: Compare = compare
    difference: Difference | None = None
    """Compares runs in a metric that is no sum over a count, such as an AUC; None where all are."""
    chance: float = 0.0
    """Value of its metrics that shows no skill; margins of equivalence of a ``difference`` are
    shares of the distance to it."""
    needs_judge: bool = False
    drawing: Callable[[Any], Config] | None = None
    """Takes the suite's settings; how it draws the responses that are kept, in the words of
    ``responses.DrawSettings``. None keeps none."""
    work: Callable[[Any, RunSettings], Work] = lambda _, __: {}
    """Takes the suite's settings and the run's; empty where it cannot be known before."""
    asks_scorers: Callable[[Any], bool] = lambda _: False
    """Takes the suite's settings; whether its numbers or the rows of its responses lack something
    without one of the judging scorers."""
    reads_with_policy: bool = False
    """Whether all its numbers are the policy's own answers, which say nothing of a decoder."""
    needs_likelihoods: bool = False
    """Whether all its numbers are of how likely texts are, which not every decoder says."""
    left_out: Callable[[Any, RunSettings], list[str]] = lambda _, __: []
    """Takes the suite's settings and the run's; one sentence for each optional part that is not
    here and will be left out."""
    reads: Callable[[Any, RunSettings], Sequence[TextSource]] = lambda _, __: []
    """Takes the suite's settings and the run's; prompt sets and corpora that it cannot be without,
    those of the run too."""
    files: Callable[[Any], Mapping[str, Path]] = lambda _: {}
    """Takes the suite's settings; other files of texts that it cannot be without, by what they are
    called there."""
    independent: Callable[[str], str] = lambda group: group
    """Takes a group of its totals; what of it is independent of the others: the prompt, where a
    group is a single response to it."""
    missing: Callable[[Any], list[str]] = lambda _: []
    """Takes the suite's settings; one sentence for each other file or package that is not here."""

    @property
    def summary(self) -> str:
        """First line of the measuring function's documentation."""
        return summary_of(self.run)

    def why_not(self, bench: Bench) -> str:
        """Why nothing of it can be measured of the policy on the bench; empty where it can."""
        if self.reads_with_policy and bench.sampler is not bench.policy:
            return NOT_OF_DECODERS
        return NO_LIKELIHOODS if self.needs_likelihoods and bench.reader is None else ""


SUITES: Registry[Suite] = Registry("suite", "acft.benchmarks", Suite)
"""Every suite by name."""
