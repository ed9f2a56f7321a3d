"""Sequences that are extended token by token, with the key-value cache of their prompts."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer

from acft.backbone.forward import positions, text_config

ROWS_AT_ONCE = 16
"""Prompts that a CPU reads in one pass: enough rows for its products, few enough that one long
prompt does not lengthen many short ones."""


class CachedDecoder:
    """One batch of sequences being extended token by token, with its key-value cache."""

    def __init__(
        self,
        model: PreTrainedModel,
        token_ids: Int[Tensor, "batch time"],
        attention_mask: Bool[Tensor, "batch time"],
    ) -> None:
        """Read the left-padded prompts; ``hidden`` is then the last prompt token's state."""
        self._model = model
        self.mask = attention_mask.long()
        self._is_padded = not bool(attention_mask.all())
        self.next_position = self.mask.sum(dim=1, keepdim=True)
        self.cache, self.hidden = _read_prompts(model, token_ids, self.mask)

    def select(self, rows: Int[Tensor, " chosen"]) -> None:
        """Keep the given rows, in this order; a row may be taken several times."""
        self.cache.reorder_cache(rows)
        self.mask = self.mask[rows]
        self.next_position = self.next_position[rows]
        self.hidden = self.hidden[rows]

    def append(self, token_ids: Int[Tensor, " batch"]) -> None:
        """Extend every sequence by one token; ``hidden`` is then that token's state."""
        self.mask = torch.cat([self.mask, torch.ones_like(self.next_position)], dim=1)
        output = self._model.base_model(
            input_ids=token_ids[:, None],
            attention_mask=self._given_mask(),
            position_ids=self.next_position,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.next_position = self.next_position + 1
        self.hidden = output.last_hidden_state[:, -1]

    def _given_mask(self) -> Int[Tensor, "batch time"] | None:
        # a mask of ones would be looked through at every token, for which a GPU is waited
        return self.mask if self._is_padded else None


def _read_prompts(
    model: PreTrainedModel, token_ids: Int[Tensor, "batch time"], mask: Int[Tensor, "batch time"]
) -> tuple[Any, Float[Tensor, "batch width"]]:
    """Key-value cache of the prompts, and the hidden state of each prompt's last token.

    A CPU reads them a few at a time, each few padded to their own longest; neighbours should be of
    like length. A GPU, where passes cost more than padding, reads them at once, and so is a model
    read that remembers otherwise than by keys and values of all tokens.
    """
    if len(mask) <= ROWS_AT_ONCE or mask.device.type != "cpu" or not _keeps_all(model):
        return _read_at_once(model, token_ids, mask)
    read = []
    for rows in torch.arange(len(mask)).split(ROWS_AT_ONCE):
        start = mask.shape[1] - int(mask[rows].sum(dim=1).max())
        read.append(_read_at_once(model, token_ids[rows, start:], mask[rows, start:]))
    caches, hidden = zip(*read, strict=True)
    return _joined(caches, mask.shape[1]), torch.cat(hidden)


def _read_at_once(
    model: PreTrainedModel, token_ids: Int[Tensor, "batch time"], mask: Int[Tensor, "batch time"]
) -> tuple[Any, Float[Tensor, "batch width"]]:
    output = model.base_model(
        input_ids=token_ids,
        attention_mask=None if bool(mask.all()) else mask,
        position_ids=positions(mask),
        use_cache=True,
    )
    return output.past_key_values, output.last_hidden_state[:, -1]


def _keeps_all(model: PreTrainedModel) -> bool:
    """Whether every layer keeps keys and values of all tokens, and nothing else."""
    config = text_config(model)
    kinds = {type(layer) for layer in DynamicCache(config=config).layers}
    return kinds == {DynamicLayer}


def _joined(caches: tuple[Any, ...], length: int) -> Any:
    """All sequences, in order; what is padded on the left is never looked at."""
    whole = caches[0]
    for number, layer in enumerate(whole.layers):
        parts = [cache.layers[number] for cache in caches]
        layer.keys = torch.cat([_lengthened(part.keys, length) for part in parts])
        layer.values = torch.cat([_lengthened(part.values, length) for part in parts])
    return whole


def _lengthened(
    kept: Float[Tensor, "batch head seen width"], length: int
) -> Float[Tensor, "batch head length width"]:
    return pad(kept, (0, 0, length - kept.shape[2], 0))
