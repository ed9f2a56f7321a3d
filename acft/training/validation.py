"""After each round, on validation data: satisfaction, toxicity, utility, distance from the base.

The judges, ``[evaluation] scorers``, take part in choosing the checkpoint that they judge later:
here on validation prompts, there on test prompts. They are apart from training, not from this
choice. Without judges, ``scorers = []``, satisfaction alone chooses among checkpoints of enough
utility, and an evaluation of the run can name some.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from acft.decoding.base import DecodedPolicy, Sampler
from acft.distributed import ranks
from acft.divergence import kl_totals
from acft.evaluation import draw_and_score, measure
from acft.events import BestCheckpoint, Phase, Scalars
from acft.likelihood import document_likelihoods, perplexity_totals
from acft.policy import Policy
from acft.schema import SATISFIED_ABOVE, TOXIC_FROM
from acft.seeding import derive_seed
from acft.totals import Totals, interval
from acft.training.outputs import Output
from acft.training.records import rollout_rows
from acft.training.world import World
from acft.types import Rollout, ScoredRollout

PERPLEXITY_TOKENS = 512
"""Longer held-out documents are cut. Another number would part resumed runs from their rounds."""
KL_BASE_ROLLOUTS = 32
"""Responses to as many validation prompts that tell the distance from the base policy."""
TRIED_RESPONSES = 8
"""Responses of the base policy that every metric is tried on before a run trains."""


@dataclass(frozen=True)
class Validation:
    """What one policy does on validation prompts and texts."""

    round: int
    satisfaction: float
    toxic_share: float
    """Share of responses that a judge scores 0.5 or more, averaged over the judges."""
    perplexity: float | None
    """Of held-out documents of the general corpora; None without such documents."""
    kl_policy_base: float
    """Nats a token, on the policy's own responses."""
    n_responses: int = 0
    """Behind satisfaction and toxic share."""

    @property
    def toxicity(self) -> float:
        """Share of responses at fault, in the middle between the constraint and the judges.

        Without judges half of what the constraint finds, which orders checkpoints in the same way.
        """
        return (1 - self.satisfaction + self.toxic_share) / 2

    @property
    def standard_error(self) -> float:
        """Of ``toxicity``, as if it were one share of the responses; 0 where none are counted.

        Source: Agresti and Coull 1998, two successes and two failures added; the plain formula
        takes a share of none for certain.
        """
        n = self.n_responses
        share = (self.toxicity * n + 2) / (n + 4)
        return math.sqrt(share * (1 - share) / (n + 4)) if n else 0.0


def validate(
    world: World,
    policy: Policy,
    round_index: int,
    step: int,
) -> Generator[Output, None, Validation]:
    """Progress, rows and scalars of one validation; returns the ``Validation``.

    A request to stop waits for the end: half a validation would choose another checkpoint than the
    uninterrupted run.
    """
    subject = "base" if policy.version == 0 else "policy"
    answers = yield from validation_answers(world, policy, subject, round_index)
    result = Validation(
        round_index,
        answers.satisfaction,
        answers.toxic_share,
        validation_perplexity(world, policy),
        kl_to_base(world, policy),
        len(answers.rollouts),
    )
    result = ranks().from_first(result)
    yield validation_scalars(result, answers, step)
    return result


@dataclass(frozen=True)
class Answers:
    """Responses to validation prompts, judged."""

    rollouts: list[Rollout]
    satisfied: Totals
    """How many satisfy the constraint, by prompt."""
    shares: dict[str, float]
    """Of responses that a judge scores 0.5 or more, by judge."""

    @property
    def satisfaction(self) -> float:
        """Share of the responses that satisfy the constraint."""
        return float(self.satisfied.sums.sum()) / len(self.rollouts)

    @property
    def toxic_share(self) -> float:
        """Average over the judges."""
        return sum(self.shares.values()) / max(1, len(self.shares))


def validation_answers(
    world: World,
    sampler: Sampler,
    subject: str,
    round_index: int,
) -> Generator[Output, None, Answers]:
    """Progress and rows of responses to the validation prompts; returns them with verdicts.

    Raises:
        DataError: A metric that the final evaluation asks fails on the first of them.
    """
    settings = world.run.evaluation
    prompts = world.prompts["validation"][: settings.validation_prompts]
    sampling = world.run.sampling.at(top_p=settings.top_p)
    scored = yield from draw_and_score(
        sampler, prompts, settings.validation_continuations, sampling,
        derive_seed(world.run.seed, "validation"), world.judges, world.constraint,
        phase=Phase.VALIDATE, round=round_index,
    )  # fmt: skip
    if round_index == 0 and settings.test_prompts:
        # of no use yet; but a metric of somebody's that fails does so before training, not after
        measure(scored[:TRIED_RESPONSES], [judge.name for judge in world.judges])
    rollouts = [item.rollout for item in scored]
    satisfaction = [item.satisfaction for item in scored]
    yield from rollout_rows(
        world, rollouts, satisfaction, round_index, purpose="validation_policy", subject=subject
    )
    shares = {
        judge.name: sum(item.scores[judge.name] >= TOXIC_FROM for item in scored) / len(scored)
        for judge in world.judges
    }
    return Answers(rollouts, _satisfied(scored), shares)


def _satisfied(scored: Sequence[ScoredRollout]) -> Totals:
    prompts = [item.rollout.prompt_id for item in scored]
    return Totals.of_rows(prompts, [item.satisfaction > SATISFIED_ABOVE for item in scored])


def validation_perplexity(world: World, policy: Policy) -> float | None:
    """Corpus perplexity of held-out documents of all general corpora; None without any."""
    count = world.run.evaluation.perplexity_documents
    documents = [d for corpus in world.held_out.values() for d in corpus["validation"][:count]]
    rows = document_likelihoods(policy, documents, PERPLEXITY_TOKENS)
    return perplexity_totals(rows).value


def kl_responses(world: World, sampler: Sampler) -> list[Rollout]:
    """Responses to validation prompts at temperature 1 from the whole vocabulary.

    A KL is an average over what is drawn so; the validation's own answers may be of a nucleus.
    """
    prompts = world.prompts["validation"]
    each = -(-KL_BASE_ROLLOUTS // len(prompts))
    seed = derive_seed(world.run.seed, "kl-base")
    return sampler.sample(prompts[:KL_BASE_ROLLOUTS], each, world.run.sampling.at(), seed).rollouts


def kl_to_base(world: World, sampler: Policy | DecodedPolicy) -> float:
    """KL(sampler ‖ base) in nats a token over responses of its own to validation prompts."""
    if sampler is world.base:
        return 0.0
    return kl_totals(sampler, world.base, kl_responses(world, sampler)).value or 0.0


def better(
    new: Validation,
    best: Validation,
    earlier: Sequence[Validation],
    base: Validation,
    tolerance: float,
) -> bool:
    """Whether ``new`` is preferred: lower toxicity among those whose utility is within tolerance.

    A checkpoint whose perplexity exceeds the base's by more than ``tolerance`` loses against any
    that does not; among two such the smaller perplexity wins. Toxicities within one standard error
    of the lowest so far count as equal, and the smaller perplexity wins: the luckiest of several
    draws is no better.

    Source: the one-standard-error rule, Breiman et al., Classification and Regression Trees, 1984.
    """
    new_excess, best_excess = _excess(new, base), _excess(best, base)
    if (new_excess > tolerance) != (best_excess > tolerance):
        return new_excess <= tolerance
    if new_excess > tolerance:
        return new_excess < best_excess
    useful = [item for item in earlier if _excess(item, base) <= tolerance]
    lowest = min([new, best, *useful], key=lambda item: item.toxicity)
    limit = lowest.toxicity + lowest.standard_error
    if new.toxicity > limit or best.toxicity > limit:
        return new.toxicity < best.toxicity
    return (new_excess, new.toxicity) < (best_excess, best.toxicity)


def best_event(validation: Validation) -> BestCheckpoint:
    """The event that names a checkpoint as the preferred one."""
    utility = (
        f", validation perplexity {validation.perplexity:.2f}"
        if validation.perplexity is not None
        else ""
    )
    return BestCheckpoint(
        validation.round,
        f"checkpoints/round-{validation.round}",
        f"satisfaction {validation.satisfaction:.3f}, toxic share {validation.toxic_share:.3f}"
        f"{utility}",
    )


def _excess(validation: Validation, base: Validation) -> float:
    if validation.perplexity is None or base.perplexity is None:
        return 0.0
    return validation.perplexity / base.perplexity - 1


def validation_scalars(result: Validation, answers: Answers, step: int) -> Scalars:
    """The event that reports a validation."""
    bounds = interval(answers.satisfied)
    values = {
        "rollout/satisfaction": result.satisfaction,
        "policy/kl_policy_base": result.kl_policy_base,
        **{f"rollout/toxic_share/{name}": share for name, share in answers.shares.items()},
    }
    if bounds.low is not None and bounds.high is not None:
        values |= {"rollout/satisfaction_low": bounds.low, "rollout/satisfaction_high": bounds.high}
    if result.perplexity is not None and math.isfinite(result.perplexity):
        values["utility/perplexity_validation"] = result.perplexity
    return Scalars(result.round, step, values)
