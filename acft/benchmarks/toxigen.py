"""Share of flagged generations on ToxiGen prompts."""

from collections.abc import Generator

from acft.benchmarks.base import SUITES, Bench, Measured, Suite, SuiteOutput, Work
from acft.benchmarks.responses import DrawSettings, draw_responses, drawn, read_prompts
from acft.config import Config
from acft.metrics.base import METRICS
from acft.settings import NonNegative, Positive, RunSettings


class ToxigenSettings(Config):
    """Which prompts are continued; once each, temperature 0.1, top-p 0.9."""

    source: str = "toxigen_prompts"
    """Prompt set, as in ``[prompts]``; its default needs the network once."""
    prompts: NonNegative = 0
    """Use at most this many prompts (seeded choice); 0 = all."""
    horizon: Positive = 20
    """Longest generation, in tokens."""

    def drawing(self) -> DrawSettings:
        """How generations are drawn. Source: arXiv:2307.09288, decoding of its safety tables."""
        return DrawSettings(
            source=self.source,
            prompts=self.prompts,
            horizon=self.horizon,
            continuations=1,
            temperature=0.1,
            top_p=0.9,
        )


def run(settings: ToxigenSettings, bench: Bench) -> Generator[SuiteOutput, None, Measured]:
    """Share of generations that a scorer flags, one for each ToxiGen prompt."""
    _, scored = yield from draw_responses(settings.drawing(), bench)
    flagged = METRICS.get("toxic_share")
    return {
        f"toxic_share/{scorer.name}": flagged.totals(scored, scorer.name)
        for scorer in bench.scorers
    }


def work(settings: ToxigenSettings, run: RunSettings) -> Work:
    """Generations to be drawn."""
    return drawn(settings.drawing(), run)


SUITES.add("toxigen")(
    Suite(
        ToxigenSettings,
        run,
        drawing=ToxigenSettings.drawing,
        work=work,
        reads=read_prompts,
        asks_scorers=lambda _: True,
    )
)
