"""How natural continuations look to another language model."""

from collections.abc import Generator

from acft.benchmarks.base import JUDGED, SUITES, Bench, Measured, Suite, SuiteOutput, Work
from acft.benchmarks.responses import DrawSettings, as_set, draw_responses, drawn, read_prompts
from acft.events import Phase, Progress
from acft.likelihood import (
    Likelihood,
    continuation_likelihoods,
    left_out_totals,
    mean_perplexity_totals,
    perplexity_totals,
)
from acft.settings import RunSettings
from acft.types import Rollout

CHUNK_RESPONSES = 128


def work(settings: DrawSettings, run: RunSettings) -> Work:
    """Responses to be drawn, and judged by the other model."""
    responses = drawn(settings, run)
    return responses | {(JUDGED, settings.model_dump_json()): sum(responses.values())}


def run(settings: DrawSettings, bench: Bench) -> Generator[SuiteOutput, None, Measured]:
    """Perplexity of continuations given their prompts, under the judge model.

    ``judge_mean_perplexity`` is the published number; ``judge_left_out_share`` is the share of
    continuations that are empty or above its limit. Source: arXiv:2105.03023, its evaluation.
    """
    rollouts, rows = yield from judge_responses(settings, bench)
    groups = {rollout.rollout_id: rollout.prompt_id for rollout in rollouts}
    return {
        "judge_perplexity": perplexity_totals(rows),
        "judge_mean_perplexity": mean_perplexity_totals(rows),
        "judge_left_out_share": left_out_totals(rows, groups),
    }


def judge_responses(
    settings: DrawSettings, bench: Bench
) -> Generator[SuiteOutput, None, tuple[list[Rollout], list[Likelihood]]]:
    """Every response, and the likelihoods of those not empty; computed when first asked for."""
    key = ("judged", settings)
    if key not in bench.memo:
        judge = bench.get_judge()
        _, scored = yield from draw_responses(settings, bench)
        rollouts = [response.rollout for response in scored]
        rows: list[Likelihood] = []
        for start in range(0, len(rollouts), CHUNK_RESPONSES):
            if bench.stops():
                return rollouts, rows
            some = rollouts[start : start + CHUNK_RESPONSES]
            is_chat = bench.run.model.chat_template
            rows += continuation_likelihoods(judge, some, are_answers=is_chat)
            done = min(start + CHUNK_RESPONSES, len(rollouts))
            yield Progress(Phase.JUDGE, done, len(rollouts), bench.round, "responses")
        bench.memo[key] = (rollouts, rows)
    return bench.memo[key]


SUITES.add("fluency")(
    Suite(
        DrawSettings,
        run,
        needs_judge=True,
        drawing=as_set,
        work=work,
        reads=read_prompts,
        asks_scorers=lambda _: True,
    )
)
