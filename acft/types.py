"""Records that cross module borders.

Axes in shape annotations: ``batch`` sequences, ``time`` token positions with the prompt included,
``step`` predictions (time - 1), ``vocab`` the vocabulary, ``*axes`` any.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Literal

from jaxtyping import Bool, Float, Int
from torch import Tensor

Split = Literal["train", "validation", "test"]
LossTokens = Literal["all", "response"]


@dataclass(frozen=True)
class Prompt:
    """A text to be continued."""

    prompt_id: str
    """Stable across runs: derived from the text."""
    text: str
    split: Split
    category: str = ""
    """Where the source sorts its prompts into categories, else empty."""
    token_ids: tuple[int, ...] = ()
    """Tokens to be read instead of the text; empty: the text is tokenised as usual."""


@dataclass(frozen=True)
class Document:
    """One training text: a prompt (may be empty) and the response that follows it."""

    document_id: str
    prompt_text: str
    response_text: str
    domain: str
    """``attribute`` for texts the constraint is about, ``general`` for all others."""
    turns: tuple[tuple[str, str], ...] = ()
    """(role, text) of every message before the response, where the source has conversations."""


@dataclass(frozen=True)
class Rollout:
    """One sampled response."""

    rollout_id: str
    prompt_id: str
    prompt_text: str
    response_text: str
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    """Ends with the end-of-text token if the policy emitted it within the horizon."""
    response_logprobs: tuple[float, ...]
    """Nats under the sampled policy at temperature 1, one for each response token."""
    policy_version: int
    """Finished policy updates; 0 is the base policy."""
    log_weight: float = 0.0
    """log p(response) - log proposal(response) in nats; 0 when drawn at temperature 1, top-p 1."""


@dataclass(frozen=True)
class DrawChecks:
    """Sums over the responses of a server that the policy itself has read again."""

    n_drawn: int = 0
    n_refused: int = 0
    """Responses that were thrown away because their tokens were not certain."""
    n_tokens: int = 0
    surprise: float = 0.0
    """Of all tokens, -log-probability minus its expectation, in nats; near 0 if all is well."""
    variance: float = 0.0
    """The variance that the surprise has if the server does draw from the policy."""
    gap: float = 0.0
    """Of all tokens, |log-probability told by the server - the policy's|, in nats."""
    n_gap: int = 0
    """Tokens whose log-probability the server told."""

    def __add__(self, other: "DrawChecks") -> "DrawChecks":
        """Both together."""
        return DrawChecks(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def z(self) -> float:
        """The surprise in its standard deviations."""
        return self.surprise / max(self.variance, 1e-9) ** 0.5

    def scalars(self) -> dict[str, float]:
        """Rates and means by metric name; nothing where no server drew."""
        if not self.n_drawn:
            return {}
        found = {
            "engine/refused_share": self.n_refused / (self.n_drawn + self.n_refused),
            "engine/surprise_z": self.z,
        }
        return found | ({"engine/logprob_gap": self.gap / self.n_gap} if self.n_gap else {})


@dataclass(frozen=True)
class ScoredRollout:
    """A rollout with the constraint's verdict and the raw scores behind it."""

    rollout: Rollout
    satisfaction: float
    """Constraint value in [0, 1]; 1 = satisfied."""
    scores: dict[str, float] = field(default_factory=dict)
    """Raw score by scorer name, in [0, 1]; for toxicity 1 = toxic."""


@dataclass(frozen=True)
class TokenBatch:
    """Right-padded token sequences; masks are True on what they select."""

    token_ids: Int[Tensor, "batch time"]
    attention_mask: Bool[Tensor, "batch time"]
    response_mask: Bool[Tensor, "batch time"]

    def to(self, device: str) -> "TokenBatch":
        """The same batch on another device."""
        return TokenBatch(
            self.token_ids.to(device), self.attention_mask.to(device), self.response_mask.to(device)
        )

    def cut(self, rows: Int[Tensor, " chosen"], end: int) -> "TokenBatch":
        """The chosen sequences, at most ``end`` tokens of each."""
        parts = (self.token_ids, self.attention_mask, self.response_mask)
        return TokenBatch(*(part[rows, :end] for part in parts))


@dataclass(frozen=True)
class Window:
    """Responses as the oracle reads them: index 0 the last prompt token, index j response token j.

    ``hidden`` comes from the policy whose responses the oracle judges, so that one forward pass
    serves both models.
    """

    hidden: Float[Tensor, "batch window width"]
    token_ids: Int[Tensor, "batch window"]
    mask: Bool[Tensor, "batch window"]
    """True where the index holds a token; index 0 always does."""
    verdicts: Float[Tensor, "batch window"]
    """Graded satisfaction of each prefix taken as a whole response; 0.5 where nobody asked."""
    prompt_ids: Int[Tensor, "batch prompt"]
    """Left-padded; the last one equals ``token_ids`` at index 0."""
    prompt_mask: Bool[Tensor, "batch prompt"]

    def __getitem__(self, rows: Int[Tensor, " chosen"] | slice) -> "Window":
        """Some of the sequences."""
        return self._each(lambda tensor: tensor[rows])

    def __len__(self) -> int:
        """Number of sequences."""
        return self.token_ids.shape[0]

    def to(self, device: str) -> "Window":
        """The same window on another device."""
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, function: Callable[[Tensor], Tensor]) -> "Window":
        return Window(**{f.name: function(getattr(self, f.name)) for f in fields(self)})
