"""The run's own report: base and preferred policy on held-out test prompts and texts."""

from collections.abc import Generator, Sequence

from acft.decoding.base import Sampler
from acft.evaluation import (
    Label,
    compare,
    evaluate,
    evaluated,
    measure,
    scorer_versions,
)
from acft.events import Evaluated, Note, Progress
from acft.likelihood import document_likelihoods, perplexity_totals
from acft.policy import Policy
from acft.seeding import derive_seed
from acft.training.outputs import Output
from acft.training.records import rollout_rows
from acft.training.train_state import TrainState
from acft.training.world import World
from acft.types import Document, ScoredRollout


def final_evaluation(state: TrainState) -> Generator[Output, None, None]:
    """Measurements of base and preferred policy on test data, and their paired differences."""
    policy, round_index = state.view(state.best_policy()), len(state.validations)
    yield from compare_responses(state.world, policy, "policy", round_index)
    yield from _perplexities(state.world, policy, round_index)


def is_wanted(world: World) -> bool:
    """Whether there is anything to measure a policy on in the end."""
    return world.run.evaluation.test_prompts > 0 and bool(world.prompts["test"])


def compare_responses(
    world: World, sampler: Sampler, subject: str, round_index: int
) -> Generator[Output, None, None]:
    """Measurements of the base policy's responses and a sampler's, and their paired differences."""
    settings = world.run.evaluation
    before = yield from _responses(world, world.base, "base", round_index)
    after = yield from _responses(world, sampler, subject, round_index)
    names = [judge.name for judge in world.judges]
    categories = {p.prompt_id: p.category for p in world.prompts["test"]}
    label = Label("rtp", subject, sampler.version, scorer_versions(world.judges))
    yield from compare(measure(before, names, categories), measure(after, names, categories), label)
    there = len(world.prompts["test"])
    if settings.test_prompts > there:
        yield Note("info", f"only {there} of {settings.test_prompts} test prompts exist")


def _responses(
    world: World, policy: Sampler, subject: str, round_index: int
) -> Generator[Output, None, list[ScoredRollout]]:
    settings = world.run.evaluation
    sampling = world.run.sampling.at(top_p=settings.top_p)
    scored = yield from evaluate(
        policy, world.prompts["test"][: settings.test_prompts], settings.continuations, sampling,
        derive_seed(world.run.seed, "test"), world.judges, world.constraint,
        subject=subject, round=round_index,
    )  # fmt: skip
    yield from rollout_rows(
        world,
        [item.rollout for item in scored],
        [item.satisfaction for item in scored],
        round_index,
        purpose="test",
        subject=subject,
    )
    return scored


def _perplexities(world: World, policy: Policy, round_index: int) -> Generator[Output, None, None]:
    count = world.run.evaluation.perplexity_documents
    sources = {name: splits["test"][:count] for name, splits in world.held_out.items()}
    for number, (name, documents) in enumerate(sources.items()):
        yield Progress("perplexity", number, len(sources), round_index, "corpora")
        yield from _perplexity(world, policy, name, documents)


def _perplexity(
    world: World, policy: Policy, name: str, documents: Sequence[Document]
) -> Generator[Evaluated, None, None]:
    if not documents:
        return
    totals = {
        subject: {f"perplexity/{name}": perplexity_totals(document_likelihoods(judge, documents))}
        for subject, judge in (("base", world.base), ("policy", policy))
    }
    for subject, version in (("base", 0), ("policy", policy.version)):
        yield from evaluated(totals[subject], Label("perplexity", subject, version))
    yield from compare(
        totals["base"], totals["policy"], Label("perplexity", "policy", policy.version)
    )
