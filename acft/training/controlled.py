"""A policy that answers behind a control text."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from acft.policy import Policy
from acft.prompt_tokens import encode_prompt
from acft.reweighting import Decoder
from acft.sampling import Samples
from acft.settings import SamplingSettings
from acft.types import Prompt, TokenBatch


@dataclass
class ControlledPolicy(Policy):
    """A policy behind a control text that nobody outside sees: not in prompts, ids or positions."""

    control: str = ""

    @classmethod
    def of(cls, policy: Policy, control: str) -> Policy:
        """The policy with the text before every prompt and document; itself where it is empty."""
        if not control:
            return policy
        fields = {name: getattr(policy, name) for name in Policy.__dataclass_fields__}
        return cls(**fields, control=control)

    @property
    def context_length(self) -> int:
        """Longest text in tokens that the policy reads behind the control text."""
        return super().context_length - len(control_ids(self, self.control))

    def seen(self, ids: Sequence[int]) -> list[int]:
        """Token ids of a text with those of the control text, behind leading special tokens."""
        start = n_leading(self)
        return [*ids[:start], *control_ids(self, self.control), *ids[start:]]

    def hidden(self, batch: TokenBatch) -> Float[Tensor, "batch time width"]:
        """Last hidden states at the positions of ``batch``."""
        start = n_leading(self)
        ids = torch.tensor(control_ids(self, self.control), device=batch.token_ids.device)
        ids = ids.expand(len(batch.token_ids), -1)
        is_text = torch.ones_like(ids, dtype=torch.bool)

        def behind(tensor: Tensor, inserted: Tensor) -> Tensor:
            return torch.cat([tensor[:, :start], inserted, tensor[:, start:]], dim=1)

        longer = TokenBatch(
            behind(batch.token_ids, ids),
            behind(batch.attention_mask, is_text),
            behind(batch.response_mask, ~is_text),
        )
        return super().hidden(longer)[:, ids.shape[1] :]

    def sample(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: SamplingSettings,
        seed: int,
        *,
        decoder: Decoder | None = None,
        keep_hidden: bool = False,
    ) -> Samples:
        """``n`` responses to each prompt, drawn behind the control text."""
        controlled = [with_control(self, prompt) for prompt in prompts]
        samples = super().sample(
            controlled, n, sampling, seed, decoder=decoder, keep_hidden=keep_hidden
        )
        texts = {prompt.prompt_id: prompt.text for prompt in prompts}
        rollouts = [
            replace(
                rollout,
                prompt_text=texts[rollout.prompt_id],
                prompt_ids=self._prompt_ids(texts[rollout.prompt_id]),
            )
            for rollout in samples.rollouts
        ]
        return replace(samples, rollouts=rollouts)

    def _prompt_ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.backbone.tokenizer(text)["input_ids"])


def control_ids(policy: Policy, control: str) -> tuple[int, ...]:
    """Tokens of a control text."""
    return tuple(policy.backbone.tokenizer.encode(control, add_special_tokens=False))


def with_control(policy: Policy, prompt: Prompt) -> Prompt:
    """The prompt as a policy reads it, behind its control text where it has one.

    Its tokens are those of both texts apart, as in training: together they may be others.
    """
    control = policy.control if isinstance(policy, ControlledPolicy) else ""
    if not control:
        return prompt
    behind = replace(prompt, text=control + prompt.text)
    if policy.chat_template:
        return behind
    own = encode_prompt(policy.backbone, prompt, chat_template=False)
    return replace(behind, token_ids=tuple(policy.seen(own)))


def n_leading(policy: Policy) -> int:
    """Special tokens that the tokenizer puts before every text."""
    return len(policy.backbone.tokenizer.encode("", add_special_tokens=True))
