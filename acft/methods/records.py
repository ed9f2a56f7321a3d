"""Rows of the run directory's tables, made from what the jobs have in hand."""

from collections.abc import Iterator, Mapping, Sequence

from acft.methods.base import Rows
from acft.methods.world import World
from acft.scorers import Scorer
from acft.scoring import score_texts
from acft.types import Rollout


def rollout_rows(
    world: World,
    rollouts: Sequence[Rollout],
    satisfaction: Sequence[float],
    round_index: int,
    *,
    purpose: str,
    subject: str,
) -> Iterator[Rows]:
    """Rows of ``rollouts`` and of ``scores`` by every scorer of the run."""
    prompts = {p.prompt_id: p for split in world.prompts.values() for p in split}
    ids = [f"{purpose}-{subject}-{round_index}-{r.rollout_id}" for r in rollouts]
    samples: dict[str, int] = {}
    rows = []
    for rollout_id, rollout, value in zip(ids, rollouts, satisfaction, strict=True):
        prompt = prompts[rollout.prompt_id]
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
                "log_weight": rollout.log_weight,
                "satisfaction": value,
            }
        )
    yield Rows("rollouts", round_index, rows)
    texts = [rollout.response_text for rollout in rollouts]
    yield Rows("scores", round_index, score_rows(ids, texts, [*world.trainers, *world.judges]))


def score_rows(
    rollout_ids: Sequence[str], texts: Sequence[str], scorers: Sequence[Scorer]
) -> list[Mapping[str, object]]:
    """One row for each response and scorer."""
    by_name = {scorer.name: scorer for scorer in scorers}
    scores = score_texts(list(by_name.values()), texts)
    return [
        {
            "rollout_id": rollout_id,
            "scorer": name,
            "scorer_version": by_name[name].version,
            "value": values[index],
        }
        for name, values in scores.items()
        for index, rollout_id in enumerate(rollout_ids)
    ]
