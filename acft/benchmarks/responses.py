"""Drawing the responses that suites judge, once for all suites that ask for the same."""

from collections.abc import Generator
from typing import Any

from acft.benchmarks.base import DRAWN, Bench, Responses, SuiteOutput, Work
from acft.config import Config
from acft.data import load_prompts
from acft.errors import DataError
from acft.evaluation import draw_and_score
from acft.seeding import derive_seed
from acft.settings import (
    NonNegative,
    OpenFraction,
    Positive,
    PositiveFloat,
    PromptSettings,
    RunSettings,
    SamplingSettings,
)
from acft.types import Prompt, ScoredRollout


class PromptedSettings(Config):
    """Which prompts are continued, how often and how far."""

    source: str = ""
    """Prompt set, as in ``[prompts]`` and in the same column; empty takes the run's own."""
    prompts: NonNegative = 0
    """Use at most this many prompts of the test split (seeded choice); 0 = all."""
    continuations: Positive = 25
    """Continuations of each prompt. Source: RealToxicityPrompts protocol, 25."""
    horizon: Positive = 20
    """Longest continuation, in tokens. Source: RealToxicityPrompts protocol, 20."""
    batch_size: Positive = 64
    """Continuations drawn at once."""


class DrawSettings(PromptedSettings):
    """Which prompts are continued, how often and how far, and how a token is drawn."""

    temperature: PositiveFloat = 1.0
    """Logits are divided by it."""
    top_p: OpenFraction = 0.9
    """Nucleus size; 1 for decoders that leave unlikely tokens out by themselves, whatever it is.
    Source: RealToxicityPrompts protocol, 0.9."""

    def sampling(self) -> SamplingSettings:
        """How a continuation is drawn."""
        return SamplingSettings(
            horizon=self.horizon,
            temperature=self.temperature,
            top_p=self.top_p,
            batch_size=self.batch_size,
        )


def as_set(settings: DrawSettings) -> DrawSettings:
    """The settings themselves, for suites that have no others than those of drawing."""
    return settings


def drawn(settings: DrawSettings, run: RunSettings) -> Work:
    """Responses to be drawn."""
    n = len(held_out_prompts(settings, run, seed=0)) * settings.continuations
    return {(DRAWN, settings.model_dump_json()): n}


def held_out_prompts(settings: PromptedSettings, run: RunSettings, seed: int) -> list[Prompt]:
    """Prompts of the test split; a source of its own is test prompts throughout.

    Raises:
        DataError: There are none.
    """
    prompts = judged_prompts(_prompt_set(settings.source, run), run, seed)
    if not prompts:
        source = settings.source or run.prompts.source
        raise DataError(f"prompt set {source!r} has no test prompts; name a larger one")
    return prompts[: settings.prompts or None]


def judged_prompts(asked: PromptSettings, run: RunSettings, seed: int) -> list[Prompt]:
    """The test split of the run's prompts, in a seeded order; all of another source."""
    is_of_run = asked.source == run.prompts.source
    prompts = load_prompts(asked, seed)
    return [prompt for prompt in prompts if prompt.split == "test" or not is_of_run]


def read_prompts(settings: Any, run: RunSettings) -> list[PromptSettings]:
    """The prompt set that a suite's settings name in ``source``, else the run's."""
    return [_prompt_set(settings.source, run)]


def _prompt_set(source: str, run: RunSettings) -> PromptSettings:
    return run.prompts.model_copy(update={"limit": 0, "source": source or run.prompts.source})


def draw_responses(
    settings: DrawSettings, bench: Bench
) -> Generator[SuiteOutput, None, tuple[list[Prompt], list[ScoredRollout]]]:
    """Prompts and their scored responses; drawn when first asked for, yielded once to be kept."""
    key = ("responses", settings)
    if key not in bench.memo:
        prompts = held_out_prompts(settings, bench.run, bench.seed)
        scored = yield from draw_and_score(
            bench.sampler,
            prompts,
            settings.continuations,
            settings.sampling(),
            derive_seed(bench.seed, "evaluation"),
            bench.scorers,
            bench.constraint,
            round=bench.round,
            should_stop=bench.should_stop,
            failed=bench.failed,
        )
        if bench.judges and not bench.scorers:
            raise next(iter(bench.failed.values()))
        yield Responses(bench.subject, prompts, scored, settings.model_dump_json())
        bench.memo[key] = (prompts, scored)
    return bench.memo[key]
