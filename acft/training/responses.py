"""Own responses that a method learns from: drawn, judged and recorded, at the budget of a round."""

import itertools
import math
import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from acft.backbone.sharded import uneven_passes
from acft.data import TokenizedDocument, even_parts
from acft.distributed import ranks
from acft.evaluation import CHUNK_RESPONSES
from acft.events import Phase, Progress, Scalars
from acft.policy import Policy
from acft.schema import SATISFIED_ABOVE
from acft.seeding import derive_seed
from acft.settings import RunSettings
from acft.training.outputs import Output
from acft.training.records import rollout_rows
from acft.training.world import World
from acft.types import Prompt, Rollout

PURPOSE = "train"
"""Of the recorded responses."""


@dataclass(frozen=True)
class Judged:
    """A response and the constraint's graded value of it."""

    rollout: Rollout
    satisfaction: float

    @property
    def is_satisfied(self) -> bool:
        """The constraint's verdict."""
        return self.satisfaction > SATISFIED_ABOVE

    @property
    def document(self) -> TokenizedDocument:
        """The response as a document, with exactly the tokens that were drawn.

        The prompt carries no loss: it is not the policy's own.
        """
        return TokenizedDocument.of(self.rollout, "attribute", "response")


def own_responses(
    world: World,
    policy: Policy,
    round_index: int,
    *,
    each: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Output, None, list[Judged]]:
    """Progress and rows while a round's responses to training prompts are drawn and judged.

    They are as many as an oracle would be trained on, drawn at temperature 1; empty ones are left
    out of what is returned.

    Args:
        each: So many responses to a prompt at least; fewer prompts get them then.
    """
    seed = derive_seed(world.run.seed, "responses", round_index)
    wanted = world.run.oracle.rollouts_per_round
    groups = portions(world.prompts["train"], wanted, each, seed)
    own: list[list[Rollout]] = []
    done = 0
    with uneven_passes(policy.backbone.model), policy.prepared():
        for prompts, n in ranks().share(pieces(groups, _at_once(world.run))):
            yield Progress(Phase.SAMPLE_TRAIN, done, wanted, round_index, "responses")
            if should_stop():
                break
            own.append(policy.sample(prompts, n, world.run.sampling.at(), seed).rollouts)
            done += len(own[-1])
    drawn = list(itertools.chain.from_iterable(ranks().joined(own)))
    # all of them in each process: what the first one judged is what the run is billed for
    values = world.constraint.score(
        [rollout.prompt_text for rollout in drawn], [rollout.response_text for rollout in drawn]
    )
    judged = [Judged(*item) for item in zip(drawn, values, strict=True)]
    yield Progress(Phase.SAMPLE_TRAIN, len(judged), wanted, round_index, "responses")
    yield from recorded(world, judged, round_index)
    return [item for item in judged if item.rollout.response_ids]


def _at_once(run: RunSettings) -> int:
    """Responses in a piece of work: at least a batch, unless a process would be left without."""
    size = ranks().size
    each = -(-run.oracle.rollouts_per_round // size)
    return max(-(-CHUNK_RESPONSES // size), min(run.sampling.batch_size, each))


def recorded(
    world: World, judged: Sequence[Judged], round_index: int
) -> Generator[Output, None, None]:
    """Rows of a round's responses, each under the policy that drew it, and what they cost."""
    for subject, is_base in (("base", True), ("policy", False)):
        drawn = [item for item in judged if (item.rollout.policy_version == 0) == is_base]
        rollouts = [item.rollout for item in drawn]
        satisfaction = [item.satisfaction for item in drawn]
        if drawn:
            yield from rollout_rows(
                world, rollouts, satisfaction, round_index, purpose=PURPOSE, subject=subject
            )
    if judged:
        yield Scalars(
            round_index,
            0,
            {
                "train/responses": float(len(judged)),
                "train/tokens": float(sum(len(item.rollout.response_ids) for item in judged)),
                "train/satisfaction": sum(item.is_satisfied for item in judged) / len(judged),
            },
        )


def portions(
    prompts: Sequence[Prompt], wanted: int, each: int, seed: int
) -> list[tuple[Sequence[Prompt], int]]:
    """Prompts and how many responses each of them gets, ``wanted`` in all; a seeded choice."""
    shuffled = list(prompts)
    random.Random(seed).shuffle(shuffled)  # noqa: S311 - nothing secret
    return evenly(shuffled[: max(1, wanted // each)], wanted)


def evenly(prompts: Sequence[Prompt], wanted: int) -> list[tuple[Sequence[Prompt], int]]:
    """Prompts and how many responses each of them gets, ``wanted`` in all.

    Where they cannot all get as many, the first ones get one more.
    """
    each, rest = divmod(wanted, len(prompts))
    groups = [(prompts[:rest], each + 1), (prompts[rest:], each)]
    return [(some, n) for some, n in groups if some and n]


def pieces(
    groups: Sequence[tuple[Sequence[Prompt], int]], at_once: int
) -> list[tuple[Sequence[Prompt], int]]:
    """Pieces of work of about ``at_once`` responses: prompts and how many responses to each.

    Those of a group are equally large: a small rest would take nearly as long as a whole piece.
    """
    return [
        (some, n)
        for prompts, n in groups
        for some in even_parts(prompts, math.ceil(len(prompts) / max(1, at_once // n)))
    ]
