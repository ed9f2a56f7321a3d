"""A run's first optimiser step and a few of its responses, taken once to be timed, kept nowhere."""

import time
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import torch

from acft.backbone.loading import Backbone, resolve_device
from acft.constraints import build_constraint
from acft.corpora.sources import needs_policy
from acft.data import (
    TokenizedDocument,
    collate,
    documents_from_rollouts,
    load_documents,
    pad_token,
    tokenize,
)
from acft.errors import AcftError
from acft.events import Phase, Progress, Scalars
from acft.inference.server import Session
from acft.inference.vocabulary import check_oracle, check_vocabulary
from acft.inference.workload import Speeds, expected_work
from acft.machine import free_memory, peak_memory
from acft.methods.acft import AcftSettings, as_set
from acft.policy import base_policy, trainable_policy
from acft.runs.failures import classify
from acft.runs.spec import Spec, parse_spec
from acft.scorers import Scorer
from acft.scoring import ScorerPool
from acft.seeding import derive_seed
from acft.settings import CorpusSettings, RunSettings
from acft.threads import use_threads
from acft.training.base_rollouts import n_base_rollouts
from acft.training.fit_job import fit_job
from acft.training.optimization import PolicyOptimizer
from acft.training.oracle_job import OracleRound, build_oracle, oracle_job
from acft.training.regularizer import Regularizer
from acft.training.world import World, prompts_by_split
from acft.types import Rollout
from acft.windows import response_windows

SAMPLED = 64
"""Responses drawn to be timed, and again to train an oracle that can guide the step."""
PASSES = 2
"""Passes of that oracle over them; the second is timed."""
PHASES: dict[str, str] = {
    Phase.SAMPLE_ORACLE: "drawing and judging responses for the oracle",
    Phase.SAMPLE_VALIDATION: "drawing and judging responses for the oracle",
    Phase.FIT_ORACLE: "training an oracle on them, to guide the step",
}
Part = dict[str, Any]
"""``{"doing": what happens now}``."""


def rehearse(session: Session, text: str) -> Generator[Part, None, dict[str, Any]]:  # noqa: ARG001
    """What happens now, several times; returns checks, seconds, memory and expected time.

    Raises:
        AcftError: The run could not take a step; says why as the run itself would.
    """
    spec = parse_spec(text)
    try:
        return (yield from _rehearsed(spec))
    except AcftError:
        raise
    except (OSError, RuntimeError, MemoryError) as error:
        failure = classify(error, spec.settings, Phase.FIT_POLICY)
        raise AcftError(f"{failure.message}; {failure.advice}") from error


def _rehearsed(spec: Spec) -> Generator[Part, None, dict[str, Any]]:
    run, method = spec.settings, spec.method_settings
    free = free_memory(resolve_device(run.device))  # before this process takes some of it
    yield {"doing": "opening the model"}
    world, drawing = yield from _small_world(run)
    everyone = [prompt for part in world.prompts.values() for prompt in part]
    names = dict.fromkeys([*world.constraint.scorers, *run.evaluation.scorers])
    checks = check_vocabulary(world.base.backbone, run, everyone, list(names))
    found: dict[str, Any] = {"device": world.base.device, "method": spec.method_name}
    found["dtype"] = str(world.base.backbone.model.dtype).removeprefix("torch.")
    if not checks[0].is_ok:
        return {**found, "checks": [check.plain() for check in checks]}
    speeds, rule, ce_weight = Speeds(0.0, drawing), None, 1.0
    if spec.method.has_oracle:
        trained, judged, read = yield from _small_oracle(world)
        speeds = replace(speeds, judged_response=judged, oracle_pass=read)
        checks.append(check_oracle(world.base.backbone, _judged_tokens(world, trained)))
        if isinstance(method, AcftSettings):
            ce_weight = method.ce_weight
            rule = _regularizer(method, world, trained) if method.kl_weight else None
    values: dict[str, float] = {}
    if run.corpus and spec.steps_per_round:
        yield {"doing": "taking one optimiser step"}
        values = _step(world, rule, ce_weight)
    speeds = replace(speeds, step=values.get("time/step_seconds", 0.0))
    n_drawn = sum(n_base_rollouts(corpus) for corpus in run.corpus if needs_policy(corpus))
    work = expected_work(spec, speeds, n_drawn)
    peak, total = peak_memory()
    return {
        **found,
        "checks": [check.plain() for check in checks],
        "step": {name: float(value) for name, value in values.items()},
        "has_kl": rule is not None,
        "is_whole": spec.method.is_counted,
        "work": [part.plain() for part in work],
        "seconds": [sum(part.low for part in work), sum(part.high for part in work)],
        "peak_bytes": peak,
        "memory_bytes": total,
        "free_bytes": free,
    }


def _small_world(run: RunSettings) -> Generator[Part, None, tuple[World, float]]:
    """What a run loads, with few responses instead of a whole corpus, and seconds per response."""
    threads = use_threads(run.schedule.threads)
    prompts = prompts_by_split(run)
    base = base_policy(run)
    base.version = 0
    yield {"doing": "opening the scorers"}
    pool = ScorerPool(resolve_device(run.device))
    constraint = build_constraint(run.constraint, pool)
    constraint_scorers: list[Scorer] = [pool(name) for name in constraint.scorers]
    yield {"doing": f"drawing {SAMPLED} responses"}
    started = time.monotonic()
    some = prompts["train"][:SAMPLED]
    sampling = run.sampling.at()
    seed = derive_seed(run.seed, "rehearsal")
    drawn = base.sample(some, -(-SAMPLED // len(some)), sampling, seed).rollouts
    each = (time.monotonic() - started) / len(drawn)
    yield {"doing": "reading the corpora"}
    corpora = [(c.weight, _documents(c, run, base.backbone, drawn)) for c in run.corpus]
    seed = derive_seed(run.seed, "adapter")
    policy = trainable_policy(base, run.adapter, seed, run.optimizer)
    world = World(
        run, base, policy, constraint, constraint_scorers, [], prompts, corpora, threads=threads
    )
    return world, each


def _documents(
    corpus: CorpusSettings, run: RunSettings, backbone: Backbone, drawn: list[Rollout]
) -> list[TokenizedDocument]:
    if needs_policy(corpus):
        return documents_from_rollouts(drawn, corpus.domain, corpus.loss)
    return tokenize(
        load_documents(corpus, run.seed)["train"], backbone.tokenizer, run.optimizer.max_tokens,
        run.seed, chat_template=run.model.chat_template, loss=corpus.loss,
        end_ids=backbone.end_ids, source=corpus.source,
    ).documents  # fmt: skip


def _small_oracle(world: World) -> Generator[Part, None, tuple[OracleRound, float, float]]:
    """An oracle of the run's kind; seconds of a judged response, and of reading one in a pass."""
    yield {"doing": "judging the vocabulary, once for this model and constraint"}
    few = {"rollouts_per_round": SAMPLED, "validation_rollouts": SAMPLED, "max_epochs": PASSES}
    settings = world.run.oracle.model_copy(update=few)
    small = replace(world, run=world.run.model_copy(update={"oracle": settings}))
    job = oracle_job(small, build_oracle(small), world.snapshot(), 1, ())
    begun: dict[str, float] = {}
    passes: list[float] = []
    while True:
        try:
            event = next(job)
        except StopIteration as end:
            judged = (begun[Phase.SAMPLE_VALIDATION] - begun[Phase.SAMPLE_ORACLE]) / SAMPLED
            read = (passes[-1] - passes[-2]) / (2 * SAMPLED) if len(passes) > 1 else 0.0
            return end.value, judged, read
        if isinstance(event, Progress):
            now = time.monotonic()
            begun.setdefault(event.phase, now)
            if event.phase == Phase.FIT_ORACLE:
                passes.append(now)
            yield {"doing": PHASES.get(event.phase, event.phase)}


def _judged_tokens(world: World, trained: OracleRound) -> int:
    """Tokens that the oracle has an opinion on."""
    guide, [document] = trained.guide, documents_from_rollouts(trained.rollouts[:1], "attribute")
    batch = collate([document], pad_token(world.base.backbone.tokenizer), world.horizon)
    with torch.inference_mode():
        batch = batch.to(world.base.device)
        starts = torch.tensor([document.response_start], device=batch.token_ids.device)
        window = response_windows(batch, world.base.hidden(batch), starts, world.horizon)
        return int(guide.oracle.next_log_r(guide.oracle.states(window)[:, :1]).shape[-1])


def _regularizer(method: AcftSettings, world: World, trained: OracleRound) -> Regularizer:
    """The KL term of a first round, towards what the small oracle says."""
    prefixes = set(method.prefixes)
    responses = documents_from_rollouts(trained.rollouts, "attribute")
    rule = Regularizer(
        trained.guide,
        world.snapshot() if method.anchor == "snapshot" else None,
        method.kl_weight,
        sampled=[(d, 1.0) for d in responses] if prefixes - {"corpus"} else (),
    )
    return as_set(rule, method)


def _step(world: World, rule: Regularizer | None, ce_weight: float) -> dict[str, float]:
    """Scalars of one step, as the run itself logs them; GPU and compiler take one to warm up."""
    n = 1 if world.base.device == "cpu" and not world.run.optimizer.compile else 2
    optimizer = world.run.optimizer.model_copy(update={"steps_per_round": n})
    schedule = world.run.schedule.model_copy(update={"rounds": 1})
    run = world.run.model_copy(update={"optimizer": optimizer, "schedule": schedule})
    steps = PolicyOptimizer(world.policy.parameters(), optimizer, n)
    values: dict[str, float] = {}
    for event in fit_job(replace(world, run=run), steps, rule, 1, ce_weight=ce_weight):
        if isinstance(event, Scalars):
            values = dict(event.values)
    return values
