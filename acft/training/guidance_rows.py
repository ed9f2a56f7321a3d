"""Rows of the guidance table about one text: what base, policy and guided policy say of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acft.objective import entropy
from acft.token_text import TokenTexts


@dataclass(frozen=True)
class LikelyTokens:
    """Log-probabilities of a few tokens after each prefix of a text, in nats."""

    ids: list[list[int]]
    """The token that follows, then the likeliest ones."""
    base: list[list[float]]
    policy: list[list[float]]
    guided: list[list[float]]
    """Only where something guides."""
    entropies: list[float]
    """Of the policy."""

    @classmethod
    def of(
        cls,
        token_ids: Int[Tensor, " time"],
        base: Float[Tensor, "step vocab"],
        policy: Float[Tensor, "step vocab"],
        guided: Float[Tensor, "place vocab"],
        places: Int[Tensor, " place"],
        top: int,
    ) -> "LikelyTokens":
        """The ``top`` likeliest under each of the three; ``places`` are the steps of ``guided``."""
        size = min(top, base.shape[-1])
        found = [side.topk(size).indices for side in (base, policy, guided)]
        found[2] = found[0].index_put((places,), found[2])  # where nothing guides, no other tokens
        ids = torch.cat([token_ids[1:, None], *found], dim=1)
        return cls(
            ids.tolist(),
            base.gather(1, ids).tolist(),
            policy.gather(1, ids).tolist(),
            guided.gather(1, ids[places]).tolist(),
            entropy(policy).tolist(),
        )


def guidance_rows(
    token_ids: Sequence[int],
    likely: LikelyTokens,
    told: Mapping[int, tuple[float, float]],
    texts: TokenTexts,
) -> list[dict[str, Any]]:
    """One row for each token, without what all rows of the text share.

    Args:
        token_ids: Of the text.
        likely: What base, policy and guided policy say of it.
        told: KL(guided ‖ policy) in nats and log R of the prefix, by the steps that are guided.
        texts: Has not seen any of the text yet.
    """
    # Nothing predicts the first token, but without it the text could not be read again.
    rows = [{**_named(0, token_ids, texts), "in_loss": False}]
    guided = dict(zip(told, likely.guided, strict=True))
    for step, ids in enumerate(likely.ids):
        sides = {"base": likely.base[step], "policy": likely.policy[step]}
        if step in guided:
            sides["guided"] = guided[step]
        alternatives = _alternatives(ids, sides, texts)  # before the text goes on
        kl, log_r = told.get(step, (None, None))
        rows.append(
            {
                **_named(step + 1, token_ids, texts),
                "logprob_base": sides["base"][0],
                "logprob_policy": sides["policy"][0],
                "logprob_guided": guided[step][0] if step in guided else None,
                "log_r": log_r,
                "kl_guided_policy": kl,
                "entropy": likely.entropies[step],
                "in_loss": step in guided,
                "alternatives": alternatives,
            }
        )
    return rows


def _named(position: int, token_ids: Sequence[int], texts: TokenTexts) -> dict[str, Any]:
    token, is_last = token_ids[position], position == len(token_ids) - 1
    text = texts.add(token, is_last=is_last)
    return {"position": position, "token_id": token, "token_text": text}


def _alternatives(
    ids: Sequence[int], sides: Mapping[str, Sequence[float]], texts: TokenTexts
) -> str:
    columns = dict(sorted((token, column) for column, token in enumerate(ids) if column))
    rows = [
        {
            "id": token,
            "text": text,
            **{name: round(values[column], 5) for name, values in sides.items()},
        }
        for (token, column), text in zip(columns.items(), texts.peek([*columns]), strict=True)
    ]
    return json.dumps(rows)
