"""Guided decoding inside ``model.generate`` of transformers, to be taken away from the workbench.

model = AutoModelForCausalLM.from_pretrained(DIR)
tokenizer = AutoTokenizer.from_pretrained(DIR, padding_side="left")
guide = OracleLogitsProcessor.load(DIR + "/oracle", model, tokenizer)
inputs = tokenizer(prompts, return_tensors="pt", padding=True)
model.generate(**inputs, do_sample=True, logits_processor=[guide])
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acft.backbone.generation import HiddenTap, LogitsProcessor, plain_model
from acft.backbone.loading import Backbone
from acft.constraints import build_constraint
from acft.decoding.guided import GuidedDecoder, GuidedSession
from acft.decoding.portable import PortableOracle
from acft.errors import DataError
from acft.oracle.base import ORACLES, Verdicts
from acft.scoring import ScorerPool


class OracleLogitsProcessor(LogitsProcessor):
    """Turns a model's next-token scores into log-probabilities of the guided policy.

    It reads the hidden states of the model's own forward pass, so that nothing is computed twice.
    For sampling and greedy search with left-padded prompts; beams are refused.
    """

    def __init__(
        self, model: Any, tokenizer: Any, portable: PortableOracle, verdicts: Verdicts | None
    ) -> None:
        """Listen to ``model``.

        Args:
            model: A causal language model of transformers, plain or wrapped by peft.
            tokenizer: The model's own.
            portable: The oracle with its settings.
            verdicts: The constraint, for oracles that read its verdict on prefixes.
        """
        self.portable, record = portable, portable.record
        decode = _backbone(model, tokenizer).decode
        self.decoder = GuidedDecoder(
            portable.oracle, decode, record.guidance, verdicts, record.horizon
        )
        self._tap = HiddenTap(model)
        self._session: GuidedSession | None = None
        self._seen = torch.empty(0, 0, dtype=torch.long)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        model: Any,
        tokenizer: Any,
        *,
        base: Any = None,
        verdicts: Verdicts | None = None,
    ) -> "OracleLogitsProcessor":
        """The processor saved in a folder, listening to ``model``.

        Args:
            folder: Where ``save`` or ``acft export --oracle`` wrote it.
            model: The model to guide.
            tokenizer: The model's own.
            base: The base model of the run, needed where every weight was trained, and by oracles
                that run it (``nado_lora``, ``dinado_lora``) where ``model`` is merged.
            verdicts: Instead of the constraint in the folder.

        Raises:
            ModelError: A file or scorer is missing, or the model is another one.
        """
        built_for = _backbone(model if base is None else base, tokenizer)
        portable = PortableOracle.load(Path(folder), built_for)
        portable.oracle.follow(_backbone(model, tokenizer))
        if verdicts is None and ORACLES.get(portable.record.oracle.kind).reads_verdicts:
            verdicts = build_constraint(
                portable.record.constraint,
                ScorerPool(str(_backbone(model, tokenizer).model.device)),
            ).score
        return cls(model, tokenizer, portable, verdicts)

    def save(self, folder: str | Path) -> None:
        """Write what ``load`` reads."""
        self.portable.save(Path(folder))

    def close(self) -> None:
        """Stop listening to the model."""
        self._tap.close()

    @torch.no_grad()
    def __call__(
        self, input_ids: Int[Tensor, "batch time"], scores: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, "batch vocab"]:
        """Log-probabilities of the guided policy for the next token, in nats."""
        hidden = self._tap.taken()
        if hidden is None or len(hidden) != len(input_ids):
            raise DataError(
                "the model that generates is not the one this processor listens to; make one with "
                "that model, and close it only after the last text"
            )
        if self._session is None or not self._goes_on(input_ids):
            self._session = self._begin(input_ids)
        self._seen = input_ids
        return self._session.reweight(scores.log_softmax(dim=-1), hidden, input_ids[:, -1])

    def _goes_on(self, input_ids: Int[Tensor, "batch time"]) -> bool:
        """Whether these sequences are those of the last call with one token more."""
        is_fresh_pass = self._tap.n_read > 1 and self._tap.is_cached
        is_longer = input_ids.shape == (self._seen.shape[0], self._seen.shape[1] + 1)
        return not is_fresh_pass and is_longer and bool((input_ids[:, :-1] == self._seen).all())

    def _begin(self, input_ids: Int[Tensor, "batch time"]) -> GuidedSession:
        if self._tap.n_read != input_ids.shape[1]:
            raise DataError(
                "sequences changed between two tokens; guided decoding works with sampling and "
                "greedy search, not with beams or assistant models"
            )
        mask = self._tap.attention_mask
        mask = torch.ones_like(input_ids) if mask is None else mask
        if not bool(mask[:, -1].all()):
            raise DataError("prompts are padded on the right; set tokenizer.padding_side = 'left'")
        prompts = [row[kept].tolist() for row, kept in zip(input_ids, mask.bool(), strict=True)]
        return self.decoder.start(self._texts(prompts), prompts)

    def _texts(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        return [self.decoder.decode(sequence) for sequence in sequences]


def _backbone(model: Any, tokenizer: Any) -> Backbone:
    plain = plain_model(model)
    name = str(getattr(plain, "name_or_path", "")) or type(plain).__name__
    return Backbone(plain, tokenizer, name, "local", "")
