"""The equations, as pure functions on log-probabilities in nats.

p policy, C constraint, R oracle: R(prefix) = Pr[C = 1 | prefix] under p, q guided policy.
``next_*`` at index t is about token t + 1. Half-precision inputs are accumulated in float32.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import pad

from acft.types import TokenBatch

LOG_R_ROUNDING = 1e-5
"""A sum of probabilities can end this far above log 1 in float32; more is a mistake."""


@dataclass(frozen=True)
class Aligned:
    """Predictions side by side with the tokens they are about."""

    values: Shaped[Tensor, "batch step *rest"]
    targets: Int[Tensor, "batch step"]
    mask_all: Bool[Tensor, "batch step"]
    """True where the target is a real token."""
    mask_response: Bool[Tensor, "batch step"]
    """True where the target is a real token of the response."""


def align(batch: TokenBatch, next_values: Shaped[Tensor, "batch time *rest"]) -> Aligned:
    """Each prediction of a token batch beside the token that it is about."""
    mask_all = batch.attention_mask[:, 1:]
    return Aligned(
        values=next_values[:, :-1],
        targets=batch.token_ids[:, 1:],
        mask_all=mask_all,
        mask_response=batch.response_mask[:, 1:] & mask_all,
    )


def token_mean(
    values: Float[Tensor, " *axes"], mask: Bool[Tensor, " *axes"], n_tokens: int
) -> Float[Tensor, ""]:
    """Sum of the selected values divided by ``n_tokens``.

    ``n_tokens`` counts the loss tokens of the whole optimiser step, so that micro-batches add up.
    The policy's loss divides by the same count inside its weights (training/fit_job.py).

    Raises:
        ValueError: ``n_tokens`` is not positive.
    """
    if n_tokens <= 0:
        raise ValueError(f"n_tokens must be at least 1, got {n_tokens}; skip steps without tokens")
    return torch.where(mask, upcast(values), 0.0).sum() / n_tokens


def nll(
    next_logprobs: Float[Tensor, "*axes vocab"], targets: Int[Tensor, " *axes"]
) -> Float[Tensor, " *axes"]:
    """Negative log-likelihood of every target token, in nats.

    Source: arXiv:2410.05559, the language-modelling term of the training loss.
    """
    return -upcast(next_logprobs.gather(-1, targets.unsqueeze(-1)).squeeze(-1))


def guided_next_logprobs(
    next_logprobs: Float[Tensor, "*axes vocab"],
    next_log_r: Float[Tensor, "*axes vocab"],
    strength: float = 1.0,
    rare: float = 0.0,
) -> Float[Tensor, "*axes vocab"]:
    """Log-probabilities of the guided policy q ∝ p·R^strength, in nats, detached.

    Args:
        next_logprobs: log p.
        next_log_r: log R.
        strength: Exponent of R.
        rare: See ``cautious_log_r``; 0 is the closed form.

    Raises:
        ValueError: The oracle rules out every next token of some prefix, or logits were passed.

    Source: arXiv:2205.14219, closed form of the projection for delta = 1; ``strength`` is ours.
    """
    return _tilted(next_logprobs, cautious_log_r(next_logprobs, next_log_r, rare), strength)[0]


def guided_next_logprobs_soft(
    next_logprobs: Float[Tensor, "batch *step vocab"],
    next_log_r: Float[Tensor, "batch *step vocab"],
    delta: float,
    log_r_prompt: Float[Tensor, " batch"],
    strength: float = 1.0,
    rare: float = 0.0,
) -> Float[Tensor, "batch *step vocab"]:
    """Log-probabilities of the nearest q with E_q[C] >= delta, in nats, detached.

    q ∝ p·w^strength with w = a·R + b·(1 - R), a = delta / R(x), b = (1 - delta) / (1 - R(x)). Where
    R(x) >= delta the constraint is inactive and q = p. ``log_r_prompt`` is log R(x).

    Raises:
        ValueError: ``delta`` is outside (0, 1], or every next token of some prefix is ruled out.

    Source: derived; stationary point of the Lagrangian of min KL(q ‖ p) for a Boolean constraint.
    """
    if not 0.0 < delta <= 1.0:
        raise ValueError(f"delta must be in (0, 1], got {delta!r}")
    log_r = _checked_log_r(cautious_log_r(next_logprobs, next_log_r, rare))
    log_r_x = upcast(log_r_prompt).reshape(log_r_prompt.shape + (1,) * (log_r.dim() - 1))
    return _tilted(next_logprobs, soft_log_w(log_r, delta, log_r_x), strength)[0]


def cautious_log_r(
    next_logprobs: Float[Tensor, "*axes vocab"],
    next_log_r: Float[Tensor, "*axes vocab"],
    rare: float,
) -> Float[Tensor, "*axes vocab"]:
    """Log R where no token of probability below ``rare`` beats the average token, E_p[R].

    An oracle has seen hardly any of them, and q seeks out those that it overrates. So such tokens
    can be guided away from, never towards.

    Source: ours; experiments/LOG.md, 2026-11-23.
    """
    if rare == 0.0:
        return next_log_r
    log_r = _checked_log_r(next_log_r)
    average = _expected_log_r(next_logprobs, log_r).unsqueeze(-1)
    is_rare = upcast(next_logprobs) < math.log(rare)
    return torch.where(is_rare, torch.minimum(log_r, average), log_r)


def soft_log_w(
    log_r: Float[Tensor, "*axes"], delta: float, log_r_prompt: Float[Tensor, "..."]
) -> Float[Tensor, "*axes"]:
    """Log of R(x)·w of prefixes for delta < 1, and 0 where the constraint is inactive.

    Without the factor, which cancels in q, an impossible prompt with R(x) = 0 would give inf.

    Args:
        log_r: log R of prefixes.
        delta: Satisfaction demanded.
        log_r_prompt: log R(x) of their prompts, of a shape that broadcasts.

    Source: derived; see ``guided_next_logprobs_soft``.
    """
    log_1_minus_delta = math.log1p(-delta) if delta < 1.0 else -math.inf
    log_w = torch.logaddexp(
        math.log(delta) + log_r,
        log_1_minus_delta + log_r_prompt - log1mexp(log_r_prompt) + log1mexp(log_r),
    )
    return torch.where(log_r_prompt < math.log(delta), log_w, 0.0)


def target_ratio(r: float, delta: float, is_satisfied: bool) -> float:  # noqa: FBT001
    """How much likelier the target makes a response than p does: a of C = 1, b of C = 0.

    Args:
        r: R(x), the satisfaction of p on the prompt.
        delta: Satisfaction demanded; where p reaches it, the target is p.
        is_satisfied: C of the response.

    Source: derived; q*(y|x) = p(y|x)·(a·C + b·(1 - C)) with a = delta / R(x) and
    b = (1 - delta) / (1 - R(x)).
    """
    if r >= delta:
        return 1.0
    return delta / r if is_satisfied else (1.0 - delta) / (1.0 - r)


def log_reach(token_log_ratios: Float[Tensor, "*axes token"]) -> Float[Tensor, "*axes prefix"]:
    """How much likelier q is than p to come to each prefix of responses, log of the ratio.

    One prefix more than tokens: the first is the prompt alone, which both are given.

    Args:
        token_log_ratios: log q - log p of each response token.

    Source: derived; a prefix is as likely as all its tokens together. With an exact R, at strength
    and delta 1, the products are R(prefix) / R(x).
    """
    return pad(token_log_ratios.cumsum(dim=-1), (1, 0))


def prompt_log_r(
    next_logprobs: Float[Tensor, "batch vocab"], next_log_r: Float[Tensor, "batch vocab"]
) -> Float[Tensor, " batch"]:
    """Log of R(x) in nats, from p and log R at the last prompt position.

    Source: derived; R(x) = sum over v of p(v|x)·R(x, v).
    """
    return _expected_log_r(next_logprobs, next_log_r)


def kl_divergence(
    p_logprobs: Float[Tensor, "*axes vocab"], q_logprobs: Float[Tensor, "*axes vocab"]
) -> Float[Tensor, " *axes"]:
    """KL(p ‖ q) in nats, infinite where q misses a part of p.

    Source: arXiv:2410.05559, the regulariser; the caller's argument order is the direction.
    """
    p_logprobs, q_logprobs = upcast(p_logprobs), upcast(q_logprobs)
    return expectation(p_logprobs.exp(), p_logprobs - q_logprobs)


def kl_guided_policy_same(
    next_logprobs: Float[Tensor, "*axes vocab"],
    next_log_r: Float[Tensor, "*axes vocab"],
    strength: float = 1.0,
) -> Float[Tensor, " *axes"]:
    """KL(guided ‖ policy) in nats when q is built from the policy itself: E_q[log s] - log Z.

    The gradient is that of a fixed q, p - q for the logits.

    Source: derived; KL(q ‖ p) with log q - log p = log s - log Z, s = R^strength.
    """
    logprobs = upcast(next_logprobs)
    q_logprobs, log_s, log_z = _tilted(logprobs, next_log_r, strength)
    change_of_logprobs = logprobs - logprobs.detach()  # zero; carries the gradient of -log p
    return expectation(q_logprobs.exp(), log_s - change_of_logprobs) - log_z


def kl_policy_guided_same(
    next_logprobs: Float[Tensor, "*axes vocab"],
    next_log_r: Float[Tensor, "*axes vocab"],
    strength: float = 1.0,
) -> Float[Tensor, " *axes"]:
    """KL(policy ‖ guided) in nats when q is built from the policy itself: log Z - E_p[log s].

    The gradient is that of a fixed q.

    Source: derived; KL(p ‖ q) with log q - log p = log s - log Z, s = R^strength.
    """
    logprobs = upcast(next_logprobs)
    _, log_s, log_z = _tilted(logprobs, next_log_r, strength)
    return log_z - expectation(logprobs.exp(), log_s)


def soft_value(
    next_logprobs: Float[Tensor, "*axes vocab"],
    reference_logprobs: Float[Tensor, "*axes vocab"],
    next_q: Float[Tensor, "*axes vocab"],
) -> Float[Tensor, " *axes"]:
    """Value of prefixes in units of beta: E_p[Q] - KL(p ‖ reference); log R at the best p.

    Source: arXiv:2402.06700, its soft Bellman updates between the tokens of an action.
    """
    logprobs = upcast(next_logprobs)
    return expectation(logprobs.exp(), upcast(next_q) + upcast(reference_logprobs) - logprobs)


def soft_returns(
    reward: Float[Tensor, " batch"],
    values: Float[Tensor, "batch step"],
    token_log_ratios: Float[Tensor, "batch step"],
    mask: Bool[Tensor, "batch step"],
    trace: float,
) -> Float[Tensor, "batch step"]:
    """What Q of each response token should be, in units of beta.

    Args:
        reward: Of each whole response, which comes at its last token.
        values: Of the prefix before each token; tokens stand first in the mask.
        trace: 0 trusts the next prefix's value alone, 1 what came of it in this response.

    Source: arXiv:2402.06700 for trace 0, arXiv:1506.02438 for the trace; no discount.
    """
    returns = upcast(reward).unsqueeze(-1).repeat(1, mask.shape[1])
    for step in reversed(range(mask.shape[1] - 1)):
        came = returns[:, step + 1] - token_log_ratios[:, step + 1]
        goes_on = (1.0 - trace) * values[:, step + 1] + trace * came
        returns[:, step] = torch.where(mask[:, step + 1], goes_on, returns[:, step])
    return returns


def entropy(next_logprobs: Float[Tensor, "*axes vocab"]) -> Float[Tensor, " *axes"]:
    """Entropy of the next token, in nats.

    Source: derived; Shannon's definition.
    """
    return -expectation(upcast(next_logprobs).exp(), upcast(next_logprobs))


def oracle_bce(
    log_r: Float[Tensor, "batch step"], satisfied: Float[Tensor, " batch"]
) -> Float[Tensor, "batch step"]:
    """Binary cross-entropy of R against the sequence's constraint value, in nats.

    ``satisfied`` is in [0, 1]; every prefix of a sequence gets the sequence's value.

    Raises:
        ValueError: ``log_r`` is above 0 by more than rounding, which means logits were passed.

    Source: arXiv:2205.14219, the cross-entropy term of the oracle's training loss.
    """
    log_r = _checked_log_r(log_r)
    c = satisfied.to(log_r.dtype).unsqueeze(-1)
    # Replacing the input where its weight is 0 keeps 0·inf out of value and gradient.
    log_satisfied = torch.where(c > 0, log_r, 0.0)
    log_violated = log1mexp(torch.where(c < 1, log_r, -1.0))
    return -(c * log_satisfied + (1 - c) * log_violated)


def consistency_gap(
    next_logprobs: Float[Tensor, "*axes vocab"],
    next_log_r: Float[Tensor, "*axes vocab"],
    log_r: Float[Tensor, " *axes"],
) -> Float[Tensor, " *axes"]:
    """Bernoulli KL(sum over v of p(v)·R(prefix, v) ‖ R(prefix)) in nats; 0 for the true R.

    Source: arXiv:2205.14219, forward-consistency regulariser.
    """
    return bernoulli_kl(_expected_log_r(next_logprobs, next_log_r), log_r)


def bernoulli_kl(
    log_p: Float[Tensor, " *axes"], log_q: Float[Tensor, " *axes"]
) -> Float[Tensor, " *axes"]:
    """KL(Bernoulli(p) ‖ Bernoulli(q)) in nats, from log p and log q.

    Raises:
        ValueError: A value is above 0 by more than rounding.

    Source: derived; the KL divergence of two coins.
    """
    log_p, log_q = _checked_log_r(log_p), _checked_log_r(log_q)
    both_p = torch.stack([log_p, log1mexp(log_p)], dim=-1)
    both_q = torch.stack([log_q, log1mexp(log_q)], dim=-1)
    return kl_divergence(both_p, both_q)


def expectation(
    probs: Float[Tensor, "*axes vocab"], values: Float[Tensor, "*axes vocab"]
) -> Float[Tensor, " *axes"]:
    """Sum of probs·values with 0·inf = 0, in the unit of the values.

    Source: derived; a token that cannot occur counts for nothing, whatever its value.
    """
    if not probs.is_cuda:  # no temporaries; a GPU would have to wait for the answer
        total = torch.linalg.vecdot(probs, values)
        if bool(total.isfinite().all()):
            return total
    return (probs * torch.where(probs > 0, values, 0.0)).sum(dim=-1)


def log1mexp(x: Float[Tensor, " *axes"]) -> Float[Tensor, " *axes"]:
    """log(1 - exp(x)) for x <= 0, accurate at both ends; -inf at 0.

    Source: derived; expm1 where exp(x) is near 1, log1p where it is near 0.
    """
    # Each branch sees only its own range: the gradient of an unselected branch must stay finite.
    # At 0, where a gradient of 0 would become NaN, there is none.
    near = torch.log(-torch.expm1(x.masked_fill(x == 0, -1.0).clamp(min=-math.log(2))))
    far = torch.log1p(-torch.exp(x.clamp(max=-math.log(2))))
    return torch.where(x > -math.log(2), near, far).masked_fill(x == 0, -math.inf)


def upcast(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The values in float32 if they are half precision, else unchanged."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _expected_log_r(
    next_logprobs: Float[Tensor, "*axes vocab"], next_log_r: Float[Tensor, "*axes vocab"]
) -> Float[Tensor, " *axes"]:
    joint = upcast(next_logprobs) + upcast(next_log_r)
    return joint.logsumexp(dim=-1).clamp(max=0.0)  # rounding can end just above 0


def _tilted(
    next_logprobs: Float[Tensor, "*axes vocab"],
    next_log_s: Float[Tensor, "*axes vocab"],
    strength: float,
) -> tuple[Float[Tensor, "*axes vocab"], Float[Tensor, "*axes vocab"], Float[Tensor, " *axes"]]:
    """Logs of q, s^strength and Z, detached: a gradient through Z can push towards violation."""
    if not strength >= 0.0:
        raise ValueError(f"strength must be at least 0, got {strength!r}")
    log_s = _checked_log_r(next_log_s).detach()
    log_s = strength * log_s if strength > 0.0 else torch.zeros_like(log_s)
    joint = upcast(next_logprobs).detach() + log_s
    log_z = joint.logsumexp(dim=-1)
    if torch.isneginf(log_z).any():
        row = torch.isneginf(log_z).nonzero()[0].tolist()
        raise ValueError(
            f"the oracle rules out every next token at row {row}; clamp next_log_r from below"
        )
    return joint - log_z.unsqueeze(-1), log_s, log_z


def _checked_log_r(log_r: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    if log_r.numel() and log_r.amax() > LOG_R_ROUNDING:
        raise ValueError(
            f"log_r must be at most 0, got {log_r.max().item():.6g}; "
            "pass log-probabilities, not logits"
        )
    return upcast(log_r).clamp(max=0.0)
