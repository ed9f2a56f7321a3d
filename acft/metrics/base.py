"""What a metric is: a sum and a count for the responses to one prompt, and how to read the ratio.

Keeping prompts apart until the end gives every metric a standard error clustered by prompt and a
paired bootstrap without code of its own.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from acft.errors import DataError, failing_as, place_outside
from acft.registry import Registry, summary_of
from acft.totals import Totals
from acft.types import ScoredRollout

SumAndCount = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A registered metric; its value is the sum over all prompts divided by the count."""

    name: str
    unit: str
    higher_is_better: bool | None
    """None where neither direction is better by itself."""
    needs_scorer: bool
    of_prompt: Callable[[Sequence[ScoredRollout], str], SumAndCount]
    """Sum and count of the responses to one prompt, under the named scorer where one is needed."""
    summary: str
    highest: float | None = 1.0
    """Largest possible value; the smallest is 0."""

    def totals(self, scored: Sequence[ScoredRollout], scorer: str = "") -> Totals:
        """Sum and count of every prompt, in the order of prompt ids.

        Raises:
            DataError: The metric needs a scorer and a response has no score of that name, or it
                fails, or gives something else than a sum and a count.
        """
        if self.needs_scorer:
            _require_scores(scored, scorer, self.name)
        prompts = by_prompt(scored)
        pairs = [self._of(prompt, responses, scorer) for prompt, responses in prompts.items()]
        columns = np.array(pairs, dtype=np.float64).reshape(-1, 2)
        return Totals(tuple(prompts), columns[:, 0], columns[:, 1])

    def _of(self, prompt: str, responses: list[ScoredRollout], scorer: str) -> SumAndCount:
        found: Any = self._asked(prompt, responses, scorer)
        try:
            total, count = map(float, found)
        except (TypeError, ValueError):
            total = count = math.nan
        if not (math.isfinite(total) and 0 <= count < math.inf):
            raise DataError(
                f"metric {self.name!r} gave {found!r} for the {len(responses)} responses to prompt "
                f"{prompt!r}; its function must give a finite sum and a count, 0 or more"
            )
        return total, count

    def _asked(self, prompt: str, responses: list[ScoredRollout], scorer: str) -> object:
        def failed(error: Exception) -> DataError:
            return DataError(
                f"metric {self.name!r} failed on the {len(responses)} responses to prompt "
                f"{prompt!r}: {type(error).__name__}: {error}{place_outside(error, __file__)}"
            )

        with failing_as(failed, Exception):
            return self.of_prompt(responses, scorer)


METRICS: Registry[Metric] = Registry("metric", "acft.metrics", Metric)
"""Every metric of sampled responses by name."""


def by_prompt(scored: Sequence[ScoredRollout]) -> Mapping[str, list[ScoredRollout]]:
    """Responses by prompt id, ids sorted."""
    groups: dict[str, list[ScoredRollout]] = {}
    for response in scored:
        groups.setdefault(response.rollout.prompt_id, []).append(response)
    return dict(sorted(groups.items()))


def score_metric(
    name: str, *, unit: str, higher_is_better: bool | None = False
) -> Callable[[Callable[[Sequence[float]], SumAndCount]], Metric]:
    """Decorator: a metric from a function of the scores of one prompt's responses."""

    def register(function: Callable[[Sequence[float]], SumAndCount]) -> Metric:
        def of_prompt(responses: Sequence[ScoredRollout], scorer: str) -> SumAndCount:
            return function([response.scores[scorer] for response in responses])

        return METRICS.add(name)(
            Metric(
                name=name,
                unit=unit,
                higher_is_better=higher_is_better,
                needs_scorer=True,
                of_prompt=of_prompt,
                summary=summary_of(function),
            )
        )

    return register


def text_metric(
    name: str, *, unit: str, higher_is_better: bool | None, highest: float | None = 1.0
) -> Callable[[Callable[[Sequence[ScoredRollout]], SumAndCount]], Metric]:
    """Decorator: a metric from a function of one prompt's responses that needs no scorer."""

    def register(function: Callable[[Sequence[ScoredRollout]], SumAndCount]) -> Metric:
        def of_prompt(responses: Sequence[ScoredRollout], _scorer: str) -> SumAndCount:
            return function(responses)

        return METRICS.add(name)(
            Metric(
                name=name,
                unit=unit,
                higher_is_better=higher_is_better,
                needs_scorer=False,
                of_prompt=of_prompt,
                summary=summary_of(function),
                highest=highest,
            )
        )

    return register


def mean_over_responses(values: Sequence[float]) -> SumAndCount:
    """Sum and count that make the metric a mean over all responses; exact in any order."""
    return math.fsum(values), float(len(values))


def mean_over_prompts(value: float) -> SumAndCount:
    """Sum and count that make the metric a mean over prompts."""
    return value, 1.0


def _require_scores(scored: Sequence[ScoredRollout], scorer: str, metric: str) -> None:
    for response in scored:
        if scorer not in response.scores:
            raise DataError(
                f"metric {metric!r} needs a score of {scorer!r} for response "
                f"{response.rollout.rollout_id!r}; there are: {', '.join(sorted(response.scores))}"
            )
