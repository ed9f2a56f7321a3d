"""Rows of the run directory's tables, made from what the jobs have in hand."""

import math
from collections.abc import Iterator, Mapping, Sequence

from acft.scoring import Scores, score_texts
from acft.training.outputs import Rows
from acft.training.world import World
from acft.types import Prompt, Rollout


def row_id(rollout: Rollout, purpose: str, subject: str, round_index: int) -> str:
    """The name of a rollout in the tables of its run."""
    return f"{purpose}-{subject}-{round_index}-{rollout.rollout_id}"


def rollout_rows(
    world: World,
    rollouts: Sequence[Rollout],
    satisfaction: Sequence[float],
    round_index: int,
    *,
    purpose: str,
    subject: str,
    scores: Scores | None = None,
) -> Iterator[Rows]:
    """Rows of ``rollouts`` and of ``scores`` by every scorer of the run.

    Args:
        scores: Where they are known already, as ``run_scores`` gives them.
    """
    scorers = [*world.constraint_scorers, *world.judges]
    yield from scored_rows(
        [prompt for split in world.prompts.values() for prompt in split],
        rollouts,
        satisfaction,
        run_scores(world, rollouts) if scores is None else scores,
        {scorer.name: scorer.version for scorer in scorers},
        round_index,
        purpose=purpose,
        subject=subject,
    )


def run_scores(world: World, rollouts: Sequence[Rollout]) -> Scores:
    """Scores of responses by every scorer of the run."""
    scorers = {scorer.name: scorer for scorer in [*world.constraint_scorers, *world.judges]}
    return score_texts(list(scorers.values()), [rollout.response_text for rollout in rollouts])


def scored_rows(
    prompts: Sequence[Prompt],
    rollouts: Sequence[Rollout],
    satisfaction: Sequence[float],
    scores: Scores,
    versions: Mapping[str, str],
    round_index: int,
    *,
    purpose: str,
    subject: str,
) -> Iterator[Rows]:
    """Rows of ``rollouts`` and of ``scores`` that are known already.

    Args:
        prompts: At least those of the rollouts.
        rollouts: Responses, those to one prompt in the order in which they were drawn.
        satisfaction: NaN where there is no constraint.
        scores: By scorer, in the order of the rollouts.
        versions: Of the scorers, by name.
        round_index: Where the rows belong.
        purpose: Why the responses were drawn.
        subject: Who drew them.
    """
    known = {prompt.prompt_id: prompt for prompt in prompts}
    ids = [row_id(rollout, purpose, subject, round_index) for rollout in rollouts]
    samples: dict[str, int] = {}
    rows = []
    for rollout_id, rollout, value in zip(ids, rollouts, satisfaction, strict=True):
        prompt = known[rollout.prompt_id]
        sample = samples[rollout.prompt_id] = samples.get(rollout.prompt_id, -1) + 1
        rows.append(
            {
                "rollout_id": rollout_id,
                "round": round_index,
                "purpose": purpose,
                "subject": subject,
                "policy_version": rollout.policy_version,
                "prompt_id": rollout.prompt_id,
                "prompt_split": prompt.split,
                "prompt_category": prompt.category,
                "sample": sample,
                "prompt_text": rollout.prompt_text,
                "response_text": rollout.response_text,
                "response_ids": list(rollout.response_ids),
                "n_tokens": len(rollout.response_ids),
                "logprob": sum(rollout.response_logprobs),
                "log_weight": _known(rollout.log_weight),
                "satisfaction": _known(value),
            }
        )
    yield Rows("rollouts", round_index, rows)
    yield Rows("scores", round_index, _score_rows(ids, scores, versions))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _score_rows(
    rollout_ids: Sequence[str], scores: Scores, versions: Mapping[str, str]
) -> list[Mapping[str, object]]:
    """One row for each response and scorer."""
    return [
        {
            "rollout_id": rollout_id,
            "scorer": name,
            "scorer_version": versions[name],
            "value": values[index],
        }
        for name, values in scores.items()
        for index, rollout_id in enumerate(rollout_ids)
    ]
