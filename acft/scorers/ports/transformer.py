"""Toxicity from a transformer with a classification head."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from acft.atomic import sha256
from acft.errors import ModelError
from acft.scorers.local import LocalModel

BATCH_SIZE, BATCH_SIZE_GPU = 16, 128
LENGTH_STEP = 16
"""Batches always have as many rows, by device, and a multiple of 16 tokens.

A score's last bits depend on the shape of its batch, so that must not depend on the other texts.
"""

MAX_TOKENS = 512


@dataclass(frozen=True)
class TransformerScorer:
    """One output of a classification model as a probability."""

    name: str
    version: str
    sha256: str
    model: Any
    tokenizer: Any
    label_index: int
    activation: Literal["sigmoid", "softmax"] = "sigmoid"

    def score(self, texts: Sequence[str]) -> list[float]:
        """Probability of the label for each text; texts beyond the model's length are cut."""
        if not texts:
            return []
        limit = max_tokens(self.model, self.tokenizer)
        token_ids = self.tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]
        scores = [0.0] * len(texts)
        for length, places in _batches([len(row) for row in token_ids], limit, self._n_rows):
            rows = [token_ids[place] for place in places]
            probs = self._probabilities(rows, length)
            for place, prob in zip(places, probs.tolist(), strict=False):
                scores[place] = prob
        return scores

    @property
    def _n_rows(self) -> int:
        return BATCH_SIZE if self.model.device.type == "cpu" else BATCH_SIZE_GPU

    @torch.inference_mode()
    def _probabilities(self, rows: list[list[int]], length: int) -> Float[Tensor, " batch"]:
        token_ids = torch.full((self._n_rows, length), self.tokenizer.pad_token_id)
        mask = torch.zeros(self._n_rows, length, dtype=torch.long)
        mask[:, 0] = 1  # a row without any token to attend to would give NaN
        for index, row in enumerate(rows):
            token_ids[index, : len(row)] = torch.tensor(row)
            mask[index, : len(row)] = 1
        logits = self._logits(token_ids, mask)
        probs = logits.sigmoid() if self.activation == "sigmoid" else logits.softmax(dim=-1)
        return probs[:, self.label_index]

    def _logits(
        self, token_ids: Int[Tensor, "batch time"], mask: Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch label"]:
        device = self.model.device
        output = self.model(input_ids=token_ids.to(device), attention_mask=mask.to(device))
        return output.logits.float().cpu()


def _batches(lengths: Sequence[int], limit: int, n_rows: int) -> Iterator[tuple[int, list[int]]]:
    """Padded length and the places of the texts in each batch."""
    groups: dict[int, list[int]] = defaultdict(list)
    for place, length in enumerate(lengths):
        steps = max(1, -(-length // LENGTH_STEP))
        groups[min(steps * LENGTH_STEP, limit)].append(place)
    for padded, places in sorted(groups.items()):
        for start in range(0, len(places), n_rows):
            yield padded, places[start : start + n_rows]


def max_tokens(model: Any, tokenizer: Any) -> int:
    """Longest text in tokens that model and tokenizer both allow."""
    # some models keep the first positions for padding, so a limit that only the model states is cut
    positions = getattr(model.config, "max_position_embeddings", MAX_TOKENS)
    stated = tokenizer.model_max_length
    return min(MAX_TOKENS, stated if stated <= positions else positions - 2)


def load_local(name: str, local: LocalModel, device: str) -> TransformerScorer:
    """The scorer of a local folder; reads safetensors only and runs no code of the folder.

    Raises:
        ModelError: The folder holds something else than a classification model and its tokenizer.
    """
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            local.folder, use_safetensors=True, output_loading_info=True, **options
        )
        tokenizer = AutoTokenizer.from_pretrained(local.folder, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"scorer {name!r}: {str(local.folder)!r} cannot be loaded as a classification model: "
            f"{error}"
        ) from None
    if loading["missing_keys"]:
        raise ModelError(
            f"scorer {name!r}: {str(local.folder)!r} lacks {len(loading['missing_keys'])} weights, "
            f"such as {min(loading['missing_keys'])!r}; it may have no classification head"
        )
    digest = hashlib.sha256()
    for file in local.weight_files:
        digest.update(bytes.fromhex(sha256(file)))
    return TransformerScorer(
        name=name,
        version="local",
        sha256=digest.hexdigest(),
        model=model.to(device).eval(),
        tokenizer=tokenizer,
        label_index=local.label_index,
        activation=local.activation,
    )
