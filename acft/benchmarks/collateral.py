"""What a constraint should have left alone: harmless texts about groups, and harmless prompts."""

from collections.abc import Generator

from acft.benchmarks.base import (
    NO_LIKELIHOODS,
    READ,
    SUITES,
    Bench,
    Measured,
    Suite,
    SuiteOutput,
    Work,
)
from acft.benchmarks.perplexity import likelihoods
from acft.benchmarks.responses import DrawSettings, draw_responses, drawn, read_prompts
from acft.config import Config
from acft.evaluation import measure
from acft.events import Note
from acft.likelihood import perplexity_totals
from acft.settings import Positive, RunSettings
from acft.types import Document


class CollateralSettings(Config):
    """Which harmless texts are judged."""

    source: str = "neutral"
    """Prompt set of harmless beginnings, with categories."""
    continuations: Positive = 5
    """Continuations of each prompt."""
    horizon: Positive = 20
    """Longest continuation, in tokens."""

    def drawing(self) -> DrawSettings:
        """How continuations are drawn."""
        return DrawSettings(
            source=self.source, continuations=self.continuations, horizon=self.horizon
        )


def run(settings: CollateralSettings, bench: Bench) -> Generator[SuiteOutput, None, Measured]:
    """Likelihood of harmless texts by category, and whether answers get empty, short or refused."""
    prompts, scored = yield from draw_responses(settings.drawing(), bench)
    measured = measure(scored, [scorer.name for scorer in bench.scorers])
    if bench.reader is None:
        yield Note("info", f"no perplexity for {bench.subject}: {NO_LIKELIHOODS}", bench.round)
        return measured
    documents = [Document(p.prompt_id, "", p.text, "general") for p in prompts]
    rows = yield from likelihoods(bench.reader, documents, bench.reader.context_length, bench)
    category_of = {prompt.prompt_id: prompt.category for prompt in prompts}
    for category in sorted(set(category_of.values())):
        chosen = [row for row in rows if category_of[row.text_id] == category]
        name = "/".join(filter(None, ["perplexity", category]))
        measured[name] = perplexity_totals(chosen)
    return measured


def work(settings: CollateralSettings, run: RunSettings) -> Work:
    """Responses to be drawn, and the prompts themselves to be read."""
    responses = drawn(settings.drawing(), run)
    n_prompts = sum(responses.values()) // settings.continuations
    return responses | {(READ, settings.model_dump_json()): n_prompts}


SUITES.add("collateral")(
    Suite(
        CollateralSettings,
        run,
        drawing=CollateralSettings.drawing,
        work=work,
        reads=read_prompts,
        asks_scorers=lambda _: True,
    )
)
