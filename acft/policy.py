"""The language model being tuned: log-probabilities, responses, snapshots and files."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from acft.backbone.adapters import (
    checkpoint_activations,
    frozen_with_adapter,
    load_trainable,
    merged_copy,
    save_trainable,
    trainable_copy,
    trainable_parameters,
)
from acft.backbone.compiled_layers import compile_layers
from acft.backbone.forward import hidden_states, logits, text_config
from acft.backbone.loading import Backbone, load_backbone, resolve_device
from acft.backbone.quantized import is_quantized
from acft.backbone.sharded import is_sharded, uneven_passes
from acft.chunked import positions_at_once
from acft.engines import Engine
from acft.engines.local import LOCAL
from acft.machine import cores
from acft.objective import align, nll
from acft.reweighting import Decoder
from acft.sampling import DrawRequest, Samples, draw
from acft.settings import AdapterSettings, OptimizerSettings, RunSettings, SamplingSettings
from acft.threads import Workers
from acft.types import Prompt, TokenBatch


@dataclass
class Policy:
    """A language model at one version."""

    backbone: Backbone
    version: int = 0
    """Finished policy updates; 0 is the base policy."""
    adapter: AdapterSettings | None = None
    """None for a frozen model without adapter."""
    chat_template: bool = False
    workers: Workers = field(default_factory=Workers)
    """Shared by all copies of a policy."""
    engine: Engine = LOCAL
    """What draws responses; likewise."""
    weights: str = ""
    """What the engine calls this version's weights; empty for the base policy's."""

    @property
    def device(self) -> str:
        """Where the weights are."""
        return str(self.backbone.model.device)

    @property
    def context_length(self) -> int:
        """Longest text in tokens that the policy reads."""
        return self.backbone.context_length

    def seen(self, ids: Sequence[int]) -> list[int]:
        """Token ids of a text as the policy reads them."""
        return list(ids)

    def hidden(self, batch: TokenBatch) -> Float[Tensor, "batch time width"]:
        """Last hidden states, as the output head and the oracle read them."""
        return hidden_states(self.backbone.model, batch.token_ids)

    def next_logprobs(self, batch: TokenBatch) -> Float[Tensor, "batch time vocab"]:
        """Log-probabilities of the following token at every position, in nats."""
        return logits(self.backbone.model, self.hidden(batch)).log_softmax(dim=-1)

    @torch.inference_mode()
    def token_logprobs(self, batch: TokenBatch) -> Float[Tensor, "batch step"]:
        """Log-probability of each realised token after the first, in nats; 0 on padding."""
        model = self.backbone.model
        aligned = align(batch, self.hidden(batch))
        states, targets = (each[aligned.mask_all] for each in (aligned.values, aligned.targets))
        at_once = positions_at_once(text_config(model).vocab_size, states.device)
        pieces = zip(states.split(at_once), targets.split(at_once), strict=True)
        logprobs = [
            -nll(logits(model, some).log_softmax(dim=-1), theirs) for some, theirs in pieces
        ]
        found = torch.zeros_like(aligned.targets, dtype=torch.float32)
        found[aligned.mask_all] = torch.cat(logprobs)
        return found

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
        """``n`` responses to each prompt; see ``sampling.draw``.

        A decoder needs every next-token distribution, so it is always this process that draws.
        """
        request = DrawRequest(
            prompts, n, sampling, seed, self.version, self.chat_template, keep_hidden, self.workers
        )
        with uneven_passes(self.backbone.model):
            if decoder is None:
                return self.engine.draw(self.backbone, self.weights, request)
            return draw(self.backbone, request, decoder=decoder)

    def prepared(self) -> AbstractContextManager[None]:
        """Within it, draws of the policy, whose weights stay as they are, share their set-up."""
        return self.engine.prepared(self.backbone)

    def parameters(self) -> list[nn.Parameter]:
        """Trainable parameters in a fixed order."""
        return trainable_parameters(self.backbone.model)

    def snapshot(self, base: "Policy") -> "Policy":
        """A frozen copy with the adapter merged; it shares with ``base`` what no adapter changes.

        Weights in few bits or in parts stay as they are, shared, with a frozen copy of the adapter
        beside them.
        """
        model = self.backbone.model
        is_lora = self.adapter is not None and self.adapter.kind == "lora"
        if is_quantized(model) or (is_lora and is_sharded(model)):
            frozen_model = frozen_with_adapter(model)
        else:
            frozen_model = merged_copy(base.backbone.model, model)
        frozen = replace(base.backbone, model=frozen_model)
        weights = self.engine.publish(self.backbone, frozen, self.adapter)
        return replace(base, backbone=frozen, version=self.version, weights=weights)

    def save(self, folder: Path) -> None:
        """Write the trainable weights."""
        if self.adapter is not None:
            save_trainable(self.backbone.model, self.adapter, folder)

    def load(self, folder: Path, version: int) -> None:
        """Read trainable weights written by ``save``.

        Raises:
            ModelError: The files are missing, damaged or of another model.
        """
        if self.adapter is not None:
            load_trainable(self.backbone.model, self.adapter, folder)
        self.version = version


def base_policy(run: RunSettings) -> Policy:
    """The frozen policy a run starts from; each of the run's CPU threads draws, one feeds a GPU.

    Raises:
        ModelError: Model or device cannot be had.
    """
    device = resolve_device(run.device)
    backbone = load_backbone(run.model, device, run.dtype)
    # collectives of several threads would meet in another order in each process
    is_divided = device != "cpu" or is_sharded(backbone.model)
    workers = Workers(1 if is_divided else run.schedule.threads or cores())
    return Policy(backbone, chat_template=run.model.chat_template, workers=workers)


def trainable_policy(
    base: Policy, adapter: AdapterSettings, seed: int, optimizer: OptimizerSettings | None = None
) -> Policy:
    """A policy whose trainable part starts without effect; ``base`` stays the same function.

    Args:
        optimizer: Says whether activations are computed twice instead of kept, and whether layers
            are compiled, those of ``base`` and its later snapshots too.

    Raises:
        ConfigError: Layers are to be compiled, and there is no compiler.
        ModelError: All weights are to be trained, and they are quantised; or the model cannot
            compute activations twice, or has no layers to compile.
    """
    optimizer = optimizer or OptimizerSettings()
    if optimizer.compile:
        compile_layers(base.backbone.model)
    model = trainable_copy(base.backbone.model, adapter, seed)
    if optimizer.checkpointing:
        checkpoint_activations(model, has_dropout=adapter.dropout > 0)
    return replace(base, backbone=replace(base.backbone, model=model), adapter=adapter)
