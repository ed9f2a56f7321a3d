"""The run's own report: base and preferred policy on held-out test prompts and texts."""

from collections.abc import Generator, Sequence

from acft.decoding.base import DecodedJudge, Sampler
from acft.evaluation import (
    Label,
    compare,
    draw_and_score,
    evaluated,
    measure,
    scorer_versions,
)
from acft.events import Evaluated, Note, Phase, Progress
from acft.likelihood import Judge, document_likelihoods, perplexity_totals
from acft.policy import Policy
from acft.seeding import derive_seed
from acft.totals import Totals
from acft.training.outputs import Output
from acft.training.records import rollout_rows
from acft.training.train_state import TrainState
from acft.training.world import World
from acft.types import Document


def final_evaluation(state: TrainState) -> Generator[Output, None, None]:
    """Measurements of base and preferred policy on test data, and their paired differences."""
    policy = state.view(state.best_policy())
    yield from compare_with_base(state.world, policy, "policy", len(state.validations))


def is_wanted(world: World) -> bool:
    """Whether there is anything to measure a policy on in the end."""
    return world.run.evaluation.test_prompts > 0 and bool(world.prompts["test"])


def compare_with_base(
    world: World, policy: Policy | DecodedJudge, subject: str, round_index: int
) -> Generator[Output, None, None]:
    """Measurements of what base and policy write and of how they read, and paired differences."""
    yield from _compare_responses(world, policy, subject, round_index)
    label = Label("perplexity", subject, policy.version)
    count = world.run.evaluation.perplexity_documents
    for number, (name, splits) in enumerate(world.held_out.items()):
        yield Progress(Phase.PERPLEXITY, number, len(world.held_out), round_index, "corpora")
        if documents := splits["test"][:count]:
            yield from _compare_perplexities(world.base, policy, name, documents, label)


def _compare_responses(
    world: World, sampler: Sampler, subject: str, round_index: int
) -> Generator[Output, None, None]:
    before = yield from _measured(world, world.base, "base", round_index)
    after = yield from _measured(world, sampler, subject, round_index)
    yield from compare(before, after, _label(world, sampler, subject))
    wanted, there = world.run.evaluation.test_prompts, len(world.prompts["test"])
    if wanted > there:
        yield Note("info", f"only {there} of {wanted} test prompts exist")


def _measured(
    world: World, sampler: Sampler, subject: str, round_index: int
) -> Generator[Output, None, dict[str, Totals]]:
    """Every measurement of a sampler's responses to the test prompts, which get their rows."""
    settings = world.run.evaluation
    prompts = world.prompts["test"][: settings.test_prompts]
    scored = yield from draw_and_score(
        sampler, prompts, settings.continuations, world.run.sampling.at(top_p=settings.top_p),
        derive_seed(world.run.seed, "test"), world.judges, world.constraint, round=round_index,
    )  # fmt: skip
    measured = measure(scored, [judge.name for judge in world.judges], prompts)
    yield from evaluated(measured, _label(world, sampler, subject))
    yield from rollout_rows(
        world,
        [item.rollout for item in scored],
        [item.satisfaction for item in scored],
        round_index,
        purpose="test",
        subject=subject,
    )
    return measured


def _label(world: World, sampler: Sampler, subject: str) -> Label:
    return Label("rtp", subject, sampler.version, scorer_versions(world.judges))


def _compare_perplexities(
    base: Judge, policy: Judge, name: str, documents: Sequence[Document], label: Label
) -> Generator[Evaluated, None, None]:
    before, after = (
        {f"perplexity/{name}": perplexity_totals(document_likelihoods(judge, documents))}
        for judge in (base, policy)
    )
    yield from evaluated(before, Label(label.suite, "base", 0))
    yield from evaluated(after, label)
    yield from compare(before, after, label)
