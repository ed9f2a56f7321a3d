"""TRL's trainers on a policy that is already open: silent, offline, a few steps at a time.

Losses, references, advantages and steps are TRL's. Ours are the tokens: pairs and responses keep
exactly what was drawn, where TRL would tokenise texts again and end every one.
"""

import copy
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.rloo_config import RLOOConfig
from trl.trainer.rloo_trainer import RLOOTrainer
from trl.trainer.utils import add_fused_lm_head

from acft.backbone.forward import positions
from acft.backbone.loading import Backbone
from acft.backbone.trl_steps import Generated, Pair, TrlSteps
from acft.data import endless_passes

ConfigT = TypeVar("ConfigT", bound=TrainingArguments)


def dpo_steps(steps: TrlSteps, pairs: Sequence[Pair], beta: float) -> None:
    """Take ``n_steps`` steps of direct preference optimisation, each on ``batch_size`` pairs."""
    rows = [{name: list(ids) for name, ids in vars(pair).items()} for pair in pairs]
    # all in one epoch, since TRL ends each with short passes and with a step on what is left over
    n_rows = steps.n_steps * steps.settings.batch_size
    order = list(islice(endless_passes(len(rows), steps.seed), n_rows))
    with _undisturbed(steps.policy.model.device), tempfile.TemporaryDirectory() as folder:
        trainer = _PairTrainer(
            model=_private(steps.policy),
            ref_model=_private(steps.base),
            args=_own_device(
                DPOConfig(
                    beta=beta,
                    max_length=None,
                    per_device_train_batch_size=steps.settings.micro_batch_size,
                    gradient_accumulation_steps=_pieces(
                        steps.settings.batch_size, steps.settings.micro_batch_size
                    ),
                    train_sampling_strategy="sequential",
                    **_common(steps, folder),
                )
            ),
            train_dataset=Dataset.from_list(rows).select(order),
            **_parts(steps),
        )
        _run(trainer)


def rloo_steps(
    steps: TrlSteps,
    prompts: Sequence[str],
    generate: Callable[[list[str]], Generated],
    reward: Callable[[list[str], list[str]], list[float]],
    *,
    beta: float,
    group: int,
    responses_per_step: int,
) -> None:
    """Take ``n_steps`` steps of REINFORCE with a leave-one-out baseline and KL to the base.

    Args:
        steps: Policy, base, optimiser.
        prompts: Names of prompts; each is passed ``group`` times in a row to ``generate``.
        generate: Draws the responses of a step.
        reward: Takes names of prompts and responses.
        beta: Weight of the KL, which is subtracted from the reward.
        group: Responses to a prompt.
        responses_per_step: A multiple of ``group``.
    """

    def rewards(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        return reward(prompts, completions)

    pieces = _pieces(responses_per_step, steps.settings.micro_batch_size)
    with _undisturbed(steps.policy.model.device), tempfile.TemporaryDirectory() as folder:
        trainer = _GroupTrainer(
            generate,
            beta,
            _private(steps.base),
            model=_private(steps.policy),
            reward_funcs=rewards,
            args=_own_device(
                RLOOConfig(
                    beta=0.0,  # else TRL opens a second reference; see _GroupTrainer
                    num_generations=group,
                    per_device_train_batch_size=responses_per_step // pieces,
                    gradient_accumulation_steps=pieces,
                    **_common(steps, folder),
                )
            ),
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
            **_parts(steps),
        )
        _run(trainer)


class _PairTrainer(DPOTrainer):
    """TRL's trainer on pairs that are token ids already."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset

    def _send_telemetry(self) -> None:
        """A run tells nobody about itself."""


class _GroupTrainer(RLOOTrainer):
    """TRL's trainer with responses drawn by us and a reference that is open already."""

    def __init__(
        self,
        generate: Callable[[list[str]], Generated],
        beta: float,
        base: PreTrainedModel,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self._draw = generate
        self.beta = beta
        add_fused_lm_head(base, temperature=self.temperature)
        self.ref_model = self.accelerator.prepare_model(base, evaluation_mode=True)

    def _generate(self, prompts: list[str]) -> tuple[list[list[int]], list[list[int]], list[str]]:
        drawn = self._draw(prompts)
        self.state.num_input_tokens_seen += sum(map(len, [*drawn.prompt_ids, *drawn.response_ids]))
        self._metrics["train"]["num_tokens"] = [self.state.num_input_tokens_seen]
        return drawn.prompt_ids, drawn.response_ids, drawn.responses

    def _get_per_token_logps_and_entropies(
        self, model: Callable[..., Any], *arguments: Any, **options: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        def placed(**inputs: Any) -> Any:
            # TRL pads prompts on the left, and models count the padding unless they are told
            return model(position_ids=positions(inputs["attention_mask"]), **inputs)

        return super()._get_per_token_logps_and_entropies(placed, *arguments, **options)

    def _send_telemetry(self) -> None:
        """A run tells nobody about itself."""


class _Steps(TrainerCallback):
    """Passes on what happens in each step."""

    def __init__(self, steps: TrlSteps) -> None:
        self._steps = steps

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        """After the gradients are clipped."""
        self._steps.before_step()

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,
        logs: dict[str, float | None] | None = None,
        **_: Any,
    ) -> None:
        """After each step, and once at the end with sums that nobody needs."""
        if logs is None or "loss" not in logs:
            return
        values = {k: float(v) for k, v in logs.items() if isinstance(v, int | float)}
        if self._steps.after_step(values):
            control.should_training_stop = True


def _common(steps: TrlSteps, folder: str) -> dict[str, Any]:
    """Arguments of every trainer; nothing is saved, printed or sent."""
    return {
        "output_dir": folder,
        "seed": steps.seed % 2**32,
        "max_steps": steps.n_steps,
        "learning_rate": steps.settings.lr,
        "lr_scheduler_type": "constant",
        "max_grad_norm": steps.settings.max_grad_norm,
        "use_cpu": steps.policy.model.device.type == "cpu",
        "bf16": False,  # the weights have the dtype that the run asked for
        "activation_checkpointing": False,
        "disable_dropout": True,  # what draws the responses has none
        "dataloader_pin_memory": False,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "no",
        "eval_strategy": "no",
    }


def _parts(steps: TrlSteps) -> dict[str, Any]:
    tokenizer = copy.deepcopy(steps.policy.tokenizer)
    if tokenizer.pad_token is None:  # without which TRL does not begin
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    return {
        "processing_class": tokenizer,
        "optimizers": (steps.optimizer, None),
        "callbacks": [_Steps(steps)],
    }


def _own_device(config: ConfigT) -> ConfigT:
    """A trainer's arguments, with the first GPU alone where there are several.

    transformers would put a copy of the model on each, and TRL refuses that; its way to say one GPU
    is what its own trainer does for a model that is split over several.
    """
    config._n_gpu = min(config.n_gpu, 1)
    return config


def _run(trainer: Any) -> None:
    trainer.remove_callback(PrinterCallback)
    trainer.train()


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """What TRL does to the process, which it takes for its own, is undone or kept quiet."""
    states = random.getstate(), np.random.get_state()
    gpus = [device] if device.type == "cuda" else []  # else memory is taken on each one in sight
    with warnings.catch_warnings(), torch.random.fork_rng(gpus):
        # it calls transformers by names that are to change, which would be said at every step
        warnings.simplefilter("ignore", FutureWarning)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def _pieces(n: int, largest: int) -> int:
    """Into how many equal forward passes of at most ``largest`` sequences ``n`` fall."""
    return next(k for k in range(1, n + 1) if n % k == 0 and n // k <= largest)


def _private(backbone: Backbone) -> PreTrainedModel:
    """The same weights behind an object whose ``forward`` and settings TRL may replace."""
    model = copy.copy(backbone.model)
    model.config = copy.deepcopy(model.config)
    model.generation_config = copy.deepcopy(model.generation_config)
    # the trainer refuses few bits without an adapter that it has put there itself, and rounds the
    # adapter over them to bfloat16
    for name in ("is_quantized", "is_loaded_in_4bit", "is_loaded_in_8bit"):
        setattr(model, name, False)
    return model
