"""Guidance rows of one text, in the columns of the guidance table, computed on demand."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acft.backbone.forward import logits
from acft.inference.opened import OpenedRun
from acft.objective import (
    guided_next_logprobs,
    guided_next_logprobs_soft,
    kl_divergence,
    prompt_log_r,
)
from acft.oracle.verdicts import prefix_verdicts
from acft.policy import Policy
from acft.token_text import TokenTexts
from acft.training.guidance_rows import LikelyTokens, guidance_rows
from acft.training.oracle_job import Guide
from acft.types import TokenBatch
from acft.windows import response_windows

TOP = 10
"""Likeliest tokens kept under each of base, policy and guided."""


@torch.inference_mode()
def token_rows(
    opened: OpenedRun, version: int, ids: list[int], start: int, prompt: str
) -> list[dict[str, Any]]:
    """One row for each token after the first; guided values inside the horizon of the response."""
    token_ids = torch.tensor([ids], device=opened.base.device)
    passes: dict[int, _Pass] = {}

    def read(by: int) -> _Pass:
        if by not in passes:
            passes[by] = _read(opened.policy(by), token_ids)
        return passes[by]

    base_lp = read(0).logprobs
    guide = opened.guide(version) if version else None
    guided_lp, log_r = base_lp[:0], base_lp[:0, 0]
    if guide is not None and start < len(ids):
        anchor = read(opened.anchor(version))
        guided_lp, log_r = _guided(opened, anchor, guide, token_ids, start, prompt)
    policy_lp = read(version).logprobs
    places = torch.arange(len(guided_lp), device=base_lp.device) + start - 1
    kls = kl_divergence(guided_lp, policy_lp[places]).tolist()
    told = dict(zip(places.tolist(), zip(kls, log_r.tolist(), strict=True), strict=True))
    likely = LikelyTokens.of(token_ids[0], base_lp, policy_lp, guided_lp, places, TOP)
    rows = guidance_rows(ids, likely, told, TokenTexts(opened.base.backbone.spell))
    return [{"sequence_id": "live", "policy_version": version, **row} for row in rows[1:]]


@dataclass(frozen=True)
class _Pass:
    """What one version says of a text."""

    policy: Policy
    logprobs: Float[Tensor, "step vocab"]
    hidden: Float[Tensor, "one time width"]


def _read(policy: Policy, token_ids: Int[Tensor, "one time"]) -> _Pass:
    mask = torch.ones_like(token_ids, dtype=torch.bool)
    hidden = policy.hidden(TokenBatch(token_ids, mask, mask))
    logprobs = logits(policy.backbone.model, hidden[0, :-1]).log_softmax(dim=-1)
    return _Pass(policy, logprobs, hidden)


def _guided(
    opened: OpenedRun,
    anchor: _Pass,
    guide: Guide,
    token_ids: Int[Tensor, "one time"],
    start: int,
    prompt: str,
) -> tuple[Float[Tensor, "place vocab"], Float[Tensor, " place"]]:
    """Guided log-probabilities and log R of each prefix, for response places up to the horizon."""
    horizon = opened.run.sampling.horizon
    mask = torch.ones_like(token_ids, dtype=torch.bool)
    starts = torch.tensor([start], device=token_ids.device)
    window = response_windows(TokenBatch(token_ids, mask, mask), anchor.hidden, starts, horizon)
    guide.oracle.follow(anchor.policy.backbone)
    if opened.reads_verdicts:
        window.verdicts.copy_(_verdicts(opened, token_ids[0].tolist(), start, prompt, horizon))
    states = guide.oracle.states(window)
    n = min(horizon, token_ids.shape[1] - start)
    next_log_r = guide.oracle.next_log_r(states[0, :n])
    place_lp = anchor.logprobs[start - 1 : start - 1 + n]
    log_r = guide.oracle.response_log_r(states, window.token_ids)[0, :n]
    strength, rare = guide.strength, opened.run.oracle.rare
    if opened.delta >= 1.0:
        return guided_next_logprobs(place_lp, next_log_r, strength, rare), log_r
    first = prompt_log_r(place_lp[:1], next_log_r[:1])
    soft = guided_next_logprobs_soft(
        place_lp, next_log_r, opened.delta, first.expand(n), strength, rare
    )
    return soft, log_r


def _verdicts(
    opened: OpenedRun, ids: list[int], start: int, prompt: str, horizon: int
) -> Float[Tensor, "one window"]:
    return prefix_verdicts(
        opened.base.backbone.decode,
        [prompt],
        [ids[:start]],
        [ids[start : start + horizon]],
        opened.constraint.score,
        horizon + 1,
    )
