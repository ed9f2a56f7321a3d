"""How far what is drawn has gone from the base policy.

One estimator for every subject, tuned or decoded, so that methods can be matched at the same value.
"""

from collections.abc import Generator, Sequence

import numpy as np

from acft.benchmarks.base import DRAWN, READ, SUITES, Bench, Measured, Suite, SuiteOutput, Work
from acft.benchmarks.responses import PromptedSettings, held_out_prompts, read_prompts
from acft.decoding.base import DecodedPolicy
from acft.divergence import kl_totals
from acft.evaluation import CHUNK_RESPONSES, draw_and_score
from acft.events import Note, Phase, Progress
from acft.policy import Policy
from acft.seeding import derive_seed
from acft.settings import Positive, RunSettings, SamplingSettings
from acft.totals import Totals
from acft.types import Prompt, Rollout

NAME = "divergence"


class DivergenceSettings(PromptedSettings):
    """Which prompts are continued; always at temperature 1 from the whole vocabulary."""

    continuations: Positive = 8
    """Continuations of each prompt."""


def run(settings: DivergenceSettings, bench: Bench) -> Generator[SuiteOutput, None, Measured]:
    """KL(subject ‖ base) in nats a token, over the subject's own continuations."""
    base, sampler = bench.get_base(), bench.sampler
    if sampler is base:
        prompts = held_out_prompts(settings, bench.run, bench.seed)
        return {"kl_subject_base": _none_at(prompts)}
    if not isinstance(sampler, Policy | DecodedPolicy):
        why_not = "no formula gives the probability of what its decoder draws"
        yield Note("info", f"no {NAME} for {bench.subject}: {why_not}", bench.round)
        return {}
    if why_not := _not_comparable(bench.policy, base):
        yield Note("info", f"no {NAME} for {bench.subject}: {why_not}", bench.round)
        return {}
    sampling = SamplingSettings(horizon=settings.horizon, batch_size=settings.batch_size)
    scored = yield from draw_and_score(
        sampler,
        held_out_prompts(settings, bench.run, bench.seed),
        settings.continuations,
        sampling,
        derive_seed(bench.seed, NAME),
        scorers=(),
        round=bench.round,
        should_stop=bench.should_stop,
    )
    rollouts = [item.rollout for item in scored]
    return (yield from _measured(sampler, rollouts, base, bench))


def work(settings: DivergenceSettings, run: RunSettings) -> Work:
    """Responses to be drawn, which the base then reads."""
    n = len(held_out_prompts(settings, run, seed=0)) * settings.continuations
    key = settings.model_dump_json()
    return {(DRAWN, key): n, (READ, key): n}


def _none_at(prompts: Sequence[Prompt]) -> Totals:
    """Zero at every prompt: the base is no way from itself, and nothing need be drawn to tell."""
    groups = tuple(prompt.prompt_id for prompt in prompts)
    return Totals(groups, np.zeros(len(groups)), np.ones(len(groups)))


def _measured(
    sampler: Policy | DecodedPolicy, rollouts: Sequence[Rollout], base: Policy, bench: Bench
) -> Generator[SuiteOutput, None, Measured]:
    if not rollouts:  # a stop came before the first
        return {}
    parts: list[Totals] = []
    for start in range(0, len(rollouts), CHUNK_RESPONSES):
        if bench.stops():
            return {}
        parts.append(kl_totals(sampler, base, rollouts[start : start + CHUNK_RESPONSES]))
        done = min(start + CHUNK_RESPONSES, len(rollouts))
        yield Progress(Phase.EVALUATE, done, len(rollouts), bench.round, "texts")
    groups = [group for part in parts for group in part.groups]
    sums, counts = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("sums", "counts")
    )
    return {"kl_subject_base": Totals.of_rows(groups, sums, counts)}


def _not_comparable(policy: Policy, base: Policy) -> str:
    """Why the base cannot read what the policy wrote; empty if it can."""
    ours, theirs = (each.backbone.tokenizer.get_vocab() for each in (policy, base))
    return "" if ours == theirs else "its tokens are not those of the base policy"


SUITES.add(NAME)(
    # what it measures is a comparison with base already
    Suite(DivergenceSettings, run, compare=lambda *_: [], work=work, reads=read_prompts)
)
