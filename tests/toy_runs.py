"""Real methods on toy models of a few thousand weights: settings, and what a run said and saved."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file

from acft.backbone.toy import save_toy_model
from acft.checkpoints import seal
from acft.config import apply_overrides
from acft.events import BestCheckpoint, Scalars
from acft.methods.base import METHODS
from acft.oracle.base import Oracle
from acft.settings import RunSettings
from acft.training.outputs import Checkpoint, Output, Rows, TrainContext
from acft.training.world import World, load_world
from acft.types import Window

T = TypeVar("T")

N_SYMBOLS, HORIZON = 4, 4
NO_BIGRAM = {"kind": "pattern", "pattern": r"\ba b\b", "must": "not_occur"}
ALWAYS = {"kind": "length", "maximum": 1000}


def toy_run(folder: Path, *overrides: str, **changes: Any) -> RunSettings:
    """Settings of a run of seconds whose model and texts lie in ``folder``."""
    model = folder / "model"
    if not model.exists():
        save_toy_model(model, N_SYMBOLS, width=16, context=32)
        (folder / "lines.txt").write_text("\n".join(lines()))
    values: dict[str, Any] = {
        "device": "cpu",
        "model": {"name": str(model)},
        "prompts": {"source": "toy"},
        "corpus": [
            {"source": str(folder / "lines.txt"), "domain": "attribute"},
            {"source": str(folder / "lines.txt"), "domain": "general"},
        ],
        "sampling": {"horizon": HORIZON},
        "constraint": [NO_BIGRAM],
        "adapter": {"rank": 4},
        "oracle": {
            "kind": "nado_recurrent", "rollouts_per_round": 64, "validation_rollouts": 32,
            "width": 8, "max_epochs": 2, "strength": 1.0, "rank": 4,
        },
        "schedule": {"rounds": 3, "threads": 1},
        "optimizer": {
            "steps_per_round": 3, "batch_size": 8, "micro_batch_size": 4, "max_tokens": 32,
            "warmup_steps": 2, "lr": 3e-3,
        },
        "evaluation": {
            "scorers": [], "validation_prompts": 2, "validation_continuations": 4,
            "test_prompts": 0, "perplexity_documents": 4,
        },
    }  # fmt: skip
    return RunSettings.parse(apply_overrides(values | changes, list(overrides)))


def lines() -> list[str]:
    """Texts of 10 to 27 symbols."""
    generator = torch.Generator().manual_seed(0)
    letters = "abcd"
    return [
        " ".join(letters[i] for i in torch.randint(4, (10 + n % 18,), generator=generator))
        for n in range(80)
    ]


@dataclass
class Trained:
    """What a method said and saved."""

    outputs: list[Output] = field(default_factory=list)
    checkpoints: dict[int, Path] = field(default_factory=dict)

    def scalars(self, prefix: str = "", first_round: int = 0) -> list[tuple[int, str, float]]:
        """(step, name, value) of all numbers but times, in the order of their names."""
        return sorted(
            (output.step, name, value)
            for output in self.outputs
            if isinstance(output, Scalars) and output.round >= first_round
            for name, value in output.values.items()
            if name.startswith(prefix) and not name.startswith("time/")
        )

    @property
    def bests(self) -> list[BestCheckpoint]:
        """The checkpoints that were preferred, in turn."""
        return [output for output in self.outputs if isinstance(output, BestCheckpoint)]

    def rows(self, table: str, first_round: int = 0) -> list[dict[str, Any]]:
        """Rows of one table, in the order of their contents."""
        found = [
            dict(row)
            for output in self.outputs
            if isinstance(output, Rows) and output.table == table and output.round >= first_round
            for row in output.rows
        ]
        return sorted(found, key=str)

    def weights(self, round_index: int) -> dict[str, torch.Tensor]:
        """Every tensor of a checkpoint by file and name."""
        folder = self.checkpoints[round_index]
        return {
            f"{file.relative_to(folder)}:{name}": value
            for file in sorted(folder.rglob("*.safetensors"))
            for name, value in load_file(file).items()
        }


def trained(
    folder: Path,
    run: RunSettings,
    method: dict[str, Any],
    resume: tuple[Path, int] | None = None,
    stop_after_checkpoint: int = 0,
    asking: Callable[[Callable[[], bool]], Callable[[], bool]] = lambda should_stop: should_stop,
) -> Trained:
    """A method's outputs, its checkpoints saved into ``folder``.

    Args:
        resume: Checkpoint to continue from, and its round.
        stop_after_checkpoint: Round after whose checkpoint a stop is asked for; 0 = never.
        asking: How the method asks for it.
    """
    result = Trained()
    entry = METHODS.get(method["name"])
    own = {name: value for name, value in method.items() if name != "name"}
    context = TrainContext(
        run,
        resume_from=resume[0] if resume else None,
        resume_round=resume[1] if resume else 0,
        should_stop=asking(lambda: 0 < stop_after_checkpoint <= max(result.checkpoints, default=0)),
    )
    with context.opened:
        for output in entry.train(entry.settings_type.parse(own, "method"), context):
            if isinstance(output, Checkpoint):
                place = folder / f"round-{output.round}"
                seal(place, output.save)
                result.checkpoints[output.round] = place
            result.outputs.append(output)
    return result


def world_of(run: RunSettings) -> World:
    """Everything a method starts from."""
    return drained(load_world(TrainContext(run)))


def drained(generator: Generator[Any, None, T]) -> T:
    """What a generator returns in the end."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Largest absolute difference of any two tensors of the same name."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


class ConstantOracle(Oracle):
    """R = 0.3 whatever was written."""

    def __init__(self, log_r_min: float, vocab: int = N_SYMBOLS + 1) -> None:
        super().__init__(log_r_min)
        self.vocab = vocab

    def states(self, window: Window) -> torch.Tensor:
        return torch.zeros(*window.token_ids.shape, 1)

    def next_logit(self, states: torch.Tensor) -> torch.Tensor:
        return torch.full((*states.shape[:-1], self.vocab), 0.3).logit()

    def token_logit(self, states: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
        return torch.full(token_ids.shape, 0.3).logit()

    def prefix_logit(self, states: torch.Tensor) -> torch.Tensor:
        return torch.full(states.shape[:-1], 0.3).logit()
