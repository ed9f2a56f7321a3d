"""Suites on policies, one after the other; a suite that fails leaves the others as they are.

A (subject, suite) pair is a round: its events come just before the checkpoint that seals it. Events
of an unfinished suite therefore follow the last checkpoint, and a resumed run takes them back and
measures that suite again.
"""

import logging
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from acft.benchmarks.base import Bench, Measured, Responses, Suite, SuiteOutput
from acft.benchmarks.results import Results
from acft.errors import AcftError
from acft.events import Note, Progress
from acft.training.outputs import Checkpoint, Output, Rows
from acft.training.records import scored_rows

BASE, CONTROL = "base", "control"
"""Subjects that the others are compared with."""


def order(subject: str) -> tuple[int, str]:
    """Base and control first, since the others are compared with them."""
    return {BASE: 0, CONTROL: 1}.get(subject, 2), subject


@dataclass
class SuiteRuns:
    """What has been measured, sealed, said and lost so far."""

    suites: Mapping[str, tuple[Suite, Any]]
    """Every suite with its settings, in order."""
    subjects: Sequence[str]
    results: Results
    """Measurements that are sealed."""
    n_sealed: int = 0
    failures: list[AcftError] = field(default_factory=list)
    unsealed: list[Output] = field(default_factory=list)
    """What the suites said that are not whole."""

    def __post_init__(self) -> None:
        self._found = {suite: dict(known) for suite, known in self.results.measured.items()}
        self._n_unsealed = 0

    @property
    def n_rounds(self) -> int:
        """Rounds where everything is whole."""
        return len(self.suites) * len(self.subjects)

    def pending(self, subject: str) -> list[str]:
        """Suites that have no sealed measurement of a subject."""
        measured = self.results.measured
        return [name for name in self.suites if subject not in measured.get(name, {})]

    def run(self, name: str, bench: Bench) -> Generator[Output, None, None]:
        """Runs a suite on the policy on the bench, and seals what it measures if that is whole.

        Nothing of it is kept when it is stopped.
        """
        bench.round, known = self.n_sealed, {*bench.failed}
        said: list[SuiteOutput] = []
        try:
            yield from _progress(self._measure(name, bench), said)
        except AcftError as error:
            text = f"suite {name} of {bench.subject} failed, the others go on: {error}"
            logging.getLogger(__name__).warning(text, exc_info=error)
            # whose frames would hold the policy in memory while the next one is opened
            error.__traceback__ = error.__cause__ = error.__context__ = None
            self.failures.append(error)
            yield Note("warning", text, self.n_sealed)
        if bench.should_stop():
            return
        if new := [bench.failed[scorer] for scorer in sorted(bench.failed.keys() - known)]:
            self.failures += new
            text = f"of {bench.subject} the others go on without: {'; '.join(map(str, new))}"
            yield Note("warning", text, self.n_sealed)
        if self._is_whole(name, bench):
            yield from self._sealed(name, bench, said)
            return
        # Rows of another round than any that is sealed, since their ids name it.
        self.unsealed += self._told(said, bench, self.n_rounds + self._n_unsealed)
        self._n_unsealed += 1

    def _measure(self, name: str, bench: Bench) -> Generator[SuiteOutput, None, None]:
        """Runs one suite and reports its numbers and how they compare; keeps them as found."""
        suite, options = self.suites[name]
        subjects = self._found.setdefault(name, {})
        if why_not := suite.why_not(bench):
            yield Note("info", f"no {name} for {bench.subject}: {why_not}", bench.round)
            subjects[bench.subject] = {}
            return
        measured = yield from suite.run(options, bench)
        if bench.should_stop():
            return
        label = bench.label(name)
        yield from suite.report(measured, label)
        if bench.subject != BASE and (base := subjects.get(BASE)):
            control = subjects.get(CONTROL) if bench.subject != CONTROL else None
            yield from suite.compare(base, measured, label, control or None)
        subjects[bench.subject] = measured

    def _is_whole(self, name: str, bench: Bench) -> bool:
        """Whether it has measured the policy under all scorers, and so what it is compared with."""
        suite, options = self.suites[name]
        is_lacking = suite.asks_scorers(options) and bool(bench.failed)
        if is_lacking or bench.subject not in self._found.get(name, {}):
            return False
        compared = {
            other
            for other in (BASE, CONTROL)
            if other in self.subjects and order(other) < order(bench.subject)
        }
        return compared <= self.results.measured.get(name, {}).keys()

    def _sealed(
        self, name: str, bench: Bench, said: Sequence[SuiteOutput]
    ) -> Generator[Output, None, None]:
        """What a suite said, and the checkpoint that holds it."""
        yield from self._told(said, bench, self.n_sealed)
        subject, results = bench.subject, self.results
        measured: Measured = self._found[name][subject]
        results.measured.setdefault(name, {})[subject] = measured
        results.drawn.setdefault(subject, []).extend(self._new_draws(said, subject))
        self.n_sealed += 1
        yield Checkpoint(self.n_sealed, bench.policy.version, 0, results.save)

    def _told(self, said: Sequence[SuiteOutput], bench: Bench, number: int) -> Iterator[Output]:
        """What a suite said, its responses as rows of that round unless they have rows."""
        new = self._new_draws(said, bench.subject)
        for output in said:
            if not isinstance(output, Responses):
                yield output
            elif output.how in new:
                yield from _rows(output, bench, number)

    def _new_draws(self, said: Sequence[SuiteOutput], subject: str) -> list[str]:
        """How responses without sealed rows were drawn; a resumed run draws others only to use."""
        known = self.results.drawn.get(subject, [])
        draws = [output.how for output in said if isinstance(output, Responses)]
        return [how for how in draws if how not in known]


def _progress(outputs: Iterable[SuiteOutput], said: list[SuiteOutput]) -> Iterator[Progress]:
    """The progress among what a suite yields, as it comes; the rest is put into ``said``."""
    for output in outputs:
        if isinstance(output, Progress):
            yield output
        else:
            said.append(output)


def _rows(responses: Responses, bench: Bench, number: int) -> Iterator[Rows]:
    scored = responses.scored
    return scored_rows(
        responses.prompts,
        [item.rollout for item in scored],
        [item.satisfaction for item in scored],
        {s.name: [item.scores[s.name] for item in scored] for s in bench.scorers},
        {s.name: s.version for s in bench.scorers},
        number,
        purpose="test",
        subject=responses.subject,
    )
