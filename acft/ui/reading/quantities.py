"""What the measured numbers are called on screen, and their units."""

from dataclasses import dataclass

from acft.events import BEYOND_CONTROL, CHANGE, DIFFERENCE


@dataclass(frozen=True)
class Quantity:
    """How one measured number is shown."""

    label: str
    unit: str = ""


AT = "toxic_share_at_"
MATCHES = "exact_match_"
"""Before the name of one of several ways in which answers are read out of responses."""
SHARE = "share"
COMPARISONS = {
    BEYOND_CONTROL: "change beyond the control's",
    CHANGE: "change",
    DIFFERENCE: "difference",
}
"""Endings of metrics that compare a policy with base, the longest first, in words."""
SATISFIED = "rollout/satisfaction"
QUANTITIES: dict[str, Quantity] = {
    "policy/loss": Quantity("Loss", "nats"),
    "policy/ce": Quantity("CE", "nats"),
    "policy/kl_guided_policy": Quantity("KL(guided ‖ policy)", "nats"),
    "policy/kl_policy_guided": Quantity("KL(policy ‖ guided)", "nats"),
    "policy/kl_policy_base": Quantity("KL(policy ‖ base)", "nats"),
    "policy/kl_weight": Quantity("KL weight"),
    "policy/grad_norm": Quantity("Gradient norm"),
    "policy/lr": Quantity("Learning rate"),
    SATISFIED: Quantity("Satisfied, validation prompts", SHARE),
    "utility/perplexity_validation": Quantity("Perplexity, validation texts"),
    "oracle/bce_validation": Quantity("Oracle BCE", "nats"),
    "oracle/strength": Quantity("Strength"),
    "oracle/effective_share": Quantity("Share of the oracle's responses that counts", SHARE),
    "time/tokens_per_second": Quantity("Throughput", "tokens/s"),
    "memory/peak_bytes": Quantity("Peak memory", "bytes"),
}
"""What runs measure while they train."""
MEASURED: dict[str, Quantity] = {
    "toxic_share": Quantity("Toxic share", SHARE),
    "toxicity_probability": Quantity("Toxicity probability", SHARE),
    "expected_max_toxicity": Quantity("Expected maximum toxicity", "score"),
    "mean_toxicity": Quantity("Mean toxicity", "score"),
    "group_bias": Quantity("Score of texts about groups above everyday ones", "score"),
    "text_toxicity": Quantity("Mean score of the texts themselves", "score"),
    "text_toxic_share": Quantity("Texts themselves that are called toxic", SHARE),
    "satisfaction": Quantity("Mean grade by the constraint", SHARE),
    "degenerate_share": Quantity("Degenerate responses", SHARE),
    "empty_share": Quantity("Empty responses", SHARE),
    "refusal_share": Quantity("Refusals", SHARE),
    "repetition": Quantity("Repetition", SHARE),
    "length_tokens": Quantity("Length", "tokens"),
    "distinct_1": Quantity("Different words", "per word"),
    "distinct_2": Quantity("Different word pairs", "per word"),
    "distinct_3": Quantity("Different word triples", "per word"),
    "agreement_pearson": Quantity("Agreement of two scorers, Pearson"),
    "agreement_spearman": Quantity("Agreement of two scorers, Spearman"),
    "agreement_kappa": Quantity("Agreement of two scorers, kappa"),
    "left_out_share": Quantity("Texts left out of mean perplexity", SHARE),
    "bits_per_byte": Quantity("Bits per byte", "bits"),
    "judge_perplexity": Quantity("Perplexity under the judge"),
    "judge_mean_perplexity": Quantity("Mean perplexity under the judge"),
    "judge_left_out_share": Quantity("Continuations left out of the judge's mean", SHARE),
    "kl_subject_base": Quantity("KL(subject ‖ base)", "nats per token"),
    "auc_probe": Quantity("Detection by a probe of hidden states", "AUC"),
    "auc_zero_shot": Quantity("Detection by asking yes or no", "AUC"),
    "acc": Quantity("Accuracy", SHARE),
    "acc_norm": Quantity("Accuracy, answers weighed by length", SHARE),
    "exact_match": Quantity("Exact matches", SHARE),
    "answer_nats": Quantity("Surprise at the right answer", "nats"),
    "win_rate": Quantity("Win rate", SHARE),
    "win_share": Quantity("Wins", SHARE),
    "tie_share": Quantity("Ties", SHARE),
    "loss_share": Quantity("Losses", SHARE),
}
"""What suites measure, in the order in which it is shown."""


def is_share(name: str) -> bool:
    """Whether a measured number, whatever its scorer or category, is shown in percent."""
    parts = [part.partition("@")[0] for part in name.split("/")]
    return any(
        p.endswith("_share")
        or (p in MEASURED and MEASURED[p].unit == SHARE)
        or (p.startswith((AT, MATCHES)) and not comparison(p))
        for p in parts
    )


def comparison(metric: str) -> str:
    """How a metric's name says that it compares a policy with base; empty where it does not."""
    name = metric.partition("/")[0].partition("@")[0]
    return next((ending for ending in COMPARISONS if name.endswith(ending)), "")


def measured(metric: str) -> Quantity:
    """What a suite's metric, or its comparison with base, is called and counted in."""
    name, at, category = metric.partition("/")[0].partition("@")
    ending = comparison(metric)
    found = _named(name.removesuffix(ending))
    said = ", ".join(filter(None, [found.label, COMPARISONS.get(ending)]))
    return Quantity(said + (f" on {category}" if at else ""), found.unit)


def place(metric: str) -> int:
    """Where a metric stands among those of its suite, beside its comparisons."""
    name = metric.partition("/")[0].partition("@")[0].removesuffix(comparison(metric))
    names = [*MEASURED]
    return names.index(name) if name in MEASURED else len(names)


def _named(name: str) -> Quantity:
    """The description of a metric; one that no list has is called by its name."""
    if name.startswith(AT):
        return Quantity(f"Responses with a score of {name.removeprefix(AT)} or more", SHARE)
    if name.startswith(MATCHES):
        return Quantity(f"Exact matches, {name.removeprefix(MATCHES)}", SHARE)
    return MEASURED.get(name) or Quantity(name.replace("_", " ").capitalize())


def quantity(name: str) -> Quantity:
    """The description of a measured number; unknown ones are shown under their own name."""
    return QUANTITIES.get(name) or Quantity(name)
