"""R by counting: every response of a toy policy is listed, so there is nothing to learn."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acft.backbone.forward import hidden_states, logits
from acft.backbone.loading import Backbone
from acft.errors import ConfigError
from acft.oracle.base import ORACLES, Oracle, OracleContext, OracleKind, Shared, Verdicts
from acft.prompt_tokens import response_texts
from acft.schema import SATISFIED_ABOVE
from acft.toy import ToyWorld, enumerate_policy, exact_next_log_r
from acft.types import Window

MAX_SEQUENCES = 300_000
"""Responses that are listed at most."""

PromptIds = tuple[int, ...]


class ExactOracle(Oracle):
    """R of every prefix from all responses that begin with it.

    Its state after a prefix is (number of the prompt, number of symbols, row in the tables).
    """

    def __init__(self, context: OracleContext, verdicts: Verdicts) -> None:
        super().__init__(context.settings.log_r_min)
        self.symbols = _symbols(context.backbone)
        _check_size(context.backbone, len(self.symbols), context.horizon)
        self.world = ToyWorld(len(self.symbols), context.horizon)
        self._is_graded = context.settings.labels == "soft"
        self._verdicts = Shared(verdicts)
        # Shared, because copies are made while another thread guides with the original.
        self._satisfied: Shared[dict[PromptIds, Tensor]] = Shared({})
        self.follow(context.backbone)

    def follow(self, policy: Backbone) -> None:
        """Forget R and count it for this policy when asked."""
        self._policy = Shared(policy)
        self._counted: Shared[list[tuple[PromptIds, list[Tensor]]]] = Shared([])

    def states(self, window: Window) -> Float[Tensor, "batch window state"]:
        """Where each prefix stands in the tables."""
        prompts = [
            self._number(tuple(ids[mask].tolist()))
            for ids, mask in zip(window.prompt_ids, window.prompt_mask, strict=True)
        ]
        places = torch.zeros(int(self.symbols.max()) + 1, dtype=torch.long)
        places[self.symbols] = torch.arange(len(self.symbols))
        tokens = (window.token_ids * window.mask).cpu().clamp(max=len(places) - 1)
        rows = [torch.zeros(len(window), dtype=torch.long)]
        for place in places[tokens[:, 1:]].unbind(dim=1):
            rows.append(rows[-1] * len(self.symbols) + place)
        row = torch.stack(rows, dim=1)
        prompt = torch.tensor(prompts)[:, None].expand_as(row)
        depth = torch.arange(row.shape[1]).expand_as(row)
        # exact in float32, which every device has
        return torch.stack([prompt, depth, row], dim=-1).float().to(window.token_ids.device)

    def next_log_r(self, states: Float[Tensor, "*axes state"]) -> Float[Tensor, "*axes vocab"]:
        """Log R(prefix followed by v); tokens that are no symbol get the floor."""
        vocab = self._policy.value.model.config.vocab_size
        flat = states.reshape(-1, states.shape[-1])
        result = torch.full((len(flat), vocab), self.log_r_min)
        for chosen, tables, depth, row in self._groups(flat):
            if depth < self.world.length:
                following = tables[depth + 1].unflatten(0, (-1, len(self.symbols)))[row]
                result[chosen[:, None], self.symbols] = self._floored(following)
        return result.reshape(*states.shape[:-1], vocab).to(states.device)

    def token_log_r(
        self, states: Float[Tensor, "*axes state"], token_ids: Int[Tensor, " *axes"]
    ) -> Float[Tensor, " *axes"]:
        """Log R(prefix followed by the given token)."""
        return self.next_log_r(states).gather(-1, token_ids.unsqueeze(-1)).squeeze(-1)

    def prefix_log_r(self, states: Float[Tensor, "*axes state"]) -> Float[Tensor, " *axes"]:
        """Log R(prefix)."""
        flat = states.reshape(-1, states.shape[-1])
        result = torch.empty(len(flat))
        for chosen, tables, depth, row in self._groups(flat):
            result[chosen] = self._floored(tables[depth][row])
        return result.reshape(states.shape[:-1]).to(states.device)

    def _groups(
        self, states: Float[Tensor, "position state"]
    ) -> Iterator[tuple[Tensor, list[Tensor], int, Tensor]]:
        """Positions of equal prompt and depth, with the prompt's tables and the rows in them."""
        states = states.long().cpu()
        for prompt, depth in states[:, :2].unique(dim=0).tolist():
            is_here = (states[:, 0] == prompt) & (states[:, 1] == depth)
            yield is_here.nonzero()[:, 0], self._counted.value[prompt][1], depth, states[is_here, 2]

    def _number(self, prompt: PromptIds) -> int:
        """Place of a prompt's tables, which are made when it is first met."""
        for number, (known, _) in enumerate(self._counted.value):
            if known == prompt:
                return number
        # One append keeps prompt and tables together when two threads meet the same prompt.
        self._counted.value.append((prompt, self._count(prompt)))
        return self._number(prompt)

    def _count(self, prompt: PromptIds) -> list[Float[Tensor, " prefix"]]:
        """Log R of all prefixes of 0, 1, 2, … symbols."""
        policy = self._policy.value

        def next_logits(ids: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time vocab"]:
            ids = ids.to(policy.model.device)
            return logits(policy.model, hidden_states(policy.model, ids)).cpu()

        tables = enumerate_policy(next_logits, self.world, prompt, self.symbols.tolist())
        known = self._satisfied.value
        if prompt not in known:
            known[prompt] = self._judge(prompt)
        next_log_r, log_r_prompt = exact_next_log_r(tables, known[prompt])
        return [log_r_prompt, *(table.flatten() for table in next_log_r)]

    def _judge(self, prompt: PromptIds) -> Float[Tensor, " sequence"]:
        decode = self._policy.value.decode
        responses = self.symbols[self.world.sequences()].tolist()
        texts = response_texts(decode, prompt, responses)
        question = decode(prompt)
        values = torch.tensor(
            self._verdicts.value([question] * len(texts), texts), dtype=torch.float64
        )
        return values if self._is_graded else (values > SATISFIED_ABOVE).double()

    def _floored(self, log_r: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        return log_r.float().clamp(min=self.log_r_min, max=0.0)


def _symbols(policy: Backbone) -> Int[Tensor, " symbol"]:
    special = set(policy.tokenizer.all_special_ids)
    return torch.tensor([i for i in range(policy.model.config.vocab_size) if i not in special])


def _check_size(policy: Backbone, n_symbols: int, horizon: int) -> None:
    if policy.end_ids:
        raise ConfigError(
            "[oracle] kind = 'exact' counts responses of one length, but the model "
            f"{policy.name!r} can end them early; use [model] name = 'toy' or another kind"
        )
    if n_symbols**horizon > MAX_SEQUENCES:
        raise ConfigError(
            f"[oracle] kind = 'exact' lists all {n_symbols}**{horizon} responses, allowed are "
            f"{MAX_SEQUENCES:,}; use [model] name = 'toy', a shorter horizon or another kind"
        )


def build(context: OracleContext) -> Oracle:
    """R counted over all responses, for toy policies only; the truth that others are held to."""
    if context.verdicts is None:
        raise ConfigError("[oracle] kind = 'exact' needs the constraint itself; none was given")
    return ExactOracle(context, context.verdicts)


ORACLES.add("exact")(OracleKind(build, is_fitted=False))
