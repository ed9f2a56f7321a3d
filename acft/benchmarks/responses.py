"""Drawing the responses that suites judge, once for all suites that ask for the same."""

from collections.abc import Generator, Sequence

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
    RunSettings,
    SamplingSettings,
)
from acft.types import Prompt, ScoredRollout


class PromptedSettings(Config):
    """Which prompts are continued, how often and how far."""

    source: str = ""
    """Prompt set, as in ``[prompts]``; empty takes the run's own."""
    prompts: NonNegative = 0
    """Use at most this many prompts of the test split (seeded choice); 0 = all."""
    continuations: Positive = 25
    """Continuations of each prompt. Source: RealToxicityPrompts protocol, 25."""
    horizon: Positive = 20
    """Longest continuation, in tokens. Source: RealToxicityPrompts protocol, 20."""
    batch_size: Positive = 64
    """Continuations drawn at once."""


class DrawSettings(PromptedSettings):
    """The same, and how a token is drawn."""

    temperature: PositiveFloat = 1.0
    """Logits are divided by it."""
    top_p: OpenFraction = 0.9
    """Nucleus size. Source: RealToxicityPrompts protocol, 0.9."""

    def sampling(self) -> SamplingSettings:
        """How a continuation is drawn."""
        return SamplingSettings(
            horizon=self.horizon,
            temperature=self.temperature,
            top_p=self.top_p,
            batch_size=self.batch_size,
        )


def drawn(settings: DrawSettings, run: RunSettings) -> Work:
    """Responses to be drawn."""
    n = len(held_out_prompts(settings, run, seed=0)) * settings.continuations
    return {(DRAWN, settings.model_dump_json()): n}


def held_out_prompts(settings: PromptedSettings, run: RunSettings, seed: int) -> list[Prompt]:
    """Prompts of the test split; a source of its own is test prompts throughout.

    Raises:
        DataError: There are none.
    """
    chosen = run.prompts.model_copy(update={"limit": 0})
    if settings.source:
        chosen = chosen.model_copy(update={"source": settings.source})
    is_own = bool(settings.source) and settings.source != run.prompts.source
    prompts = [prompt for prompt in load_prompts(chosen, seed) if is_own or prompt.split == "test"]
    if not prompts:
        raise DataError(f"prompt set {chosen.source!r} has no test prompts; name a larger one")
    return prompts[: settings.prompts or None]


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


def categories(prompts: Sequence[Prompt]) -> dict[str, str]:
    """Category by prompt id."""
    return {prompt.prompt_id: prompt.category for prompt in prompts}
