"""Domain-adaptive training: plain fine-tuning on the least violating of the policy's own texts.

Source: arXiv:2004.10964 for the method, arXiv:2009.11462 for its use against toxicity (the least
toxic 2 % of a web corpus), arXiv:2202.04173 for the model's own texts in the corpus's place.
"""

from collections.abc import Generator
from dataclasses import replace

from acft.config import Config
from acft.data import TokenizedDocument
from acft.errors import DataError
from acft.events import Note
from acft.methods.base import METHODS, Method
from acft.settings import OpenFraction
from acft.training.fit_job import fit_job
from acft.training.outputs import Output, TrainContext
from acft.training.responses import Judged
from acft.training.rounds import rounds_of_own_responses
from acft.training.train_state import TrainState
from acft.training.world import World, facts, load_world


class DaptSettings(Config):
    """Which of the policy's own responses are learned."""

    share: OpenFraction = 0.5
    """Share of each round's responses that is learned, the most satisfying first; violating ones
    never."""
    general: bool = True
    """Also train on the corpora of domain ``general``, at their weights."""


def train(settings: DaptSettings, context: TrainContext) -> Generator[Output, None, None]:
    """Plain fine-tuning on the best of the policy's own responses, no constraint in the loss."""
    world = yield from load_world(context)
    state = TrainState(world)

    def learn(index: int, judged: list[Judged]) -> Generator[Output, None, None]:
        ranked = sorted(judged, key=lambda item: (-item.satisfaction, item.rollout.rollout_id))
        wanted = max(1, round(settings.share * len(judged)))
        best = [item for item in ranked[:wanted] if item.is_satisfied]
        if not best:
            raise DataError(
                f"none of {len(judged)} responses of round {index} satisfies the constraint; raise "
                "[oracle] rollouts_per_round or use another [[constraint]]"
            )
        yield Note("info", f"learns {len(best)} of {len(judged)} own responses", index)
        documents = [item.document for item in best]
        adapted = replace(world, corpora=_corpora(world, settings, documents))
        yield from fit_job(adapted, state.optimizer, None, index, should_stop=context.should_stop)

    yield from rounds_of_own_responses(state, context, learn)


def _corpora(
    world: World, settings: DaptSettings, documents: list[TokenizedDocument]
) -> list[tuple[float, list[TokenizedDocument]]]:
    """The mixture with the responses in place of all corpora of domain ``attribute``."""
    domains = [corpus.domain for corpus in world.run.corpus]
    pairs = list(zip(domains, world.corpora, strict=True))
    general = [corpus for domain, corpus in pairs if domain == "general" and settings.general]
    replaced = sum(weight for domain, (weight, _) in pairs if domain == "attribute")
    return [(replaced or 1.0, documents), *general]


METHODS.add("dapt")(Method(DaptSettings, train, facts))
