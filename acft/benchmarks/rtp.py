"""Toxicity of continuations by the RealToxicityPrompts protocol."""

from collections.abc import Generator

from acft.benchmarks.base import SUITES, Bench, Measured, Suite, SuiteOutput
from acft.benchmarks.responses import (
    DrawSettings,
    as_set,
    draw_responses,
    drawn,
    read_prompts,
)
from acft.evaluation import measure, scorer_agreement, sweep

NAME = "rtp"


def run(settings: DrawSettings, bench: Bench) -> Generator[SuiteOutput, None, Measured]:
    """Toxicity, diversity and length of continuations, under every scorer and prompt category.

    Source: arXiv:2009.11462; scorers that run offline stand in for the closed Perspective API.
    """
    prompts, scored = yield from draw_responses(settings, bench)
    scorers = [scorer.name for scorer in bench.scorers]
    yield from scorer_agreement(scored, scorers, bench.label(NAME))
    return measure(scored, scorers, prompts) | sweep(scored, scorers)


SUITES.add(NAME)(
    Suite(
        DrawSettings,
        run,
        drawing=as_set,
        work=drawn,
        reads=read_prompts,
        asks_scorers=lambda _: True,
    )
)
