"""What the measured numbers are called on screen, with unit and meaning."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """How one measured number is shown."""

    label: str
    unit: str = ""
    help: str = ""


SHARES = frozenset(
    {
        "toxic_share", "toxicity_probability", "satisfaction", "degenerate_share", "empty_share",
        "refusal_share", "repetition",
    }
)  # fmt: skip
"""Metrics that say how many of all, shown in percent; scores and numbers of others stay as is."""
QUANTITIES: dict[str, Quantity] = {
    "policy/loss": Quantity("Loss", "nats", "CE + KL weight × KL, token mean over a step"),
    "policy/ce": Quantity("CE", "nats", "cross-entropy on the corpus, token mean"),
    "policy/kl_guided_policy": Quantity(
        "KL(guided ‖ policy)", "nats", "what the policy has not absorbed of the guidance, per token"
    ),
    "policy/kl_policy_guided": Quantity(
        "KL(policy ‖ guided)", "nats", "the same distance with sides changed, per token"
    ),
    "policy/kl_policy_base": Quantity(
        "KL(policy ‖ base)", "nats", "how far the policy has moved from its start, per token"
    ),
    "policy/kl_weight": Quantity("KL weight", "", "λ; moves under dual ascent"),
    "policy/grad_norm": Quantity("Gradient norm", "", "before clipping"),
    "policy/lr": Quantity("Learning rate"),
    "rollout/satisfaction": Quantity(
        "Satisfaction", "share", "of validation responses that satisfy the constraint"
    ),
    "utility/perplexity_validation": Quantity(
        "Perplexity, validation texts", "", "general texts, after each round"
    ),
    "oracle/bce_validation": Quantity("Oracle BCE", "nats", "per response position"),
    "oracle/strength": Quantity("Strength", "", "exponent of R in the guided policy"),
    "time/tokens_per_second": Quantity("Throughput", "tokens/s", "training tokens of the policy"),
    "memory/peak_bytes": Quantity("Peak memory", "bytes"),
}


def is_share(name: str) -> bool:
    """Whether a measured number, whatever its scorer or category, is shown in percent."""
    return any(part.partition("@")[0] in SHARES for part in name.split("/"))


def quantity(name: str) -> Quantity:
    """The description of a measured number; unknown ones are shown under their own name."""
    return QUANTITIES.get(name) or Quantity(name)
