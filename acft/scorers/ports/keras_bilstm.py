"""Bidirectional LSTM classifiers trained in Keras, computed by PyTorch from the Keras files.

Embedding, LSTM in both directions over 100 steps, maximum over the steps, two dense layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import torch
from jaxtyping import Float, Int
from torch import Tensor

from acft.errors import ModelError
from acft.scorers.ports.keras_pickle import KerasTokenizer

LABELS = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")

MAX_WORDS = 100

BATCH_SIZE = 64
"""Texts in every product: a row's last bits depend on how many rows there are, not on which."""


class ArrayNames(NamedTuple):
    """Where an HDF5 file keeps each array; kernels are [inputs, outputs], gates lie as i f g o."""

    embedding: str
    forward: tuple[str, str, str]
    """Kernel, recurrent kernel and bias of the LSTM that reads from the first word."""
    backward: tuple[str, str, str]
    hidden: tuple[str, str]
    """Kernel and bias of the hidden dense layer."""
    output: tuple[str, str]


@dataclass(frozen=True)
class Weights:
    """The arrays of one classifier; the leading axis of 2 is the direction."""

    embedding: Float[Tensor, "word input"]
    kernel: Float[Tensor, "2 input gates"]
    recurrent_kernel: Float[Tensor, "2 unit gates"]
    bias: Float[Tensor, "2 1 gates"]
    hidden_kernel: Float[Tensor, "both_units hidden"]
    hidden_bias: Float[Tensor, " hidden"]
    output_kernel: Float[Tensor, "hidden label"]
    output_bias: Float[Tensor, " label"]


def read_weights(path: Path, names: ArrayNames) -> Weights:
    """The arrays of a Keras file as float32.

    Raises:
        ModelError: The file or one of its arrays is missing or damaged.
    """
    try:
        with h5py.File(path, "r") as file:

            def read(name: str) -> Tensor:
                return torch.tensor(file[name][()], dtype=torch.float32)  # pyright: ignore[reportIndexIssue]

            kernel, recurrent_kernel, bias = (
                torch.stack([read(forward), read(backward)])
                for forward, backward in zip(names.forward, names.backward, strict=True)
            )
            return Weights(
                read(names.embedding), kernel, recurrent_kernel, bias[:, None],
                *map(read, names.hidden), *map(read, names.output),
            )  # fmt: skip
    except (OSError, KeyError, TypeError) as error:
        raise ModelError(f"cannot read weights {str(path)!r}: {error}; run 'make assets'") from None


@torch.inference_mode()
def label_probabilities(
    weights: Weights, word_ids: Int[Tensor, "batch time"], *, hard_gates: bool
) -> Float[Tensor, "batch label"]:
    """Probability of each label.

    Args:
        weights: Arrays of the classifier.
        word_ids: Zeros before the words; they are read like words, as in training.
        hard_gates: Gates are clip(0.2 x + 0.5, 0, 1), the default of old Keras, not the sigmoid.
    """
    words = weights.embedding[word_ids.T]  # [time batch input]
    both = torch.stack([words, words.flip(0)], dim=1)
    inputs = both @ weights.kernel + weights.bias  # [time 2 batch gates]
    forward, backward = _lstm_max(inputs, weights.recurrent_kernel, hard_gates=hard_gates)
    pooled = torch.cat([forward, backward], dim=-1)
    hidden = torch.relu(pooled @ weights.hidden_kernel + weights.hidden_bias)
    # so narrow a float32 product rounds rows differently by where in the batch they stand
    logits = hidden.double() @ weights.output_kernel.double() + weights.output_bias
    return torch.sigmoid(logits.float())


def _lstm_max(
    inputs: Float[Tensor, "time 2 batch gates"],
    recurrent_kernel: Float[Tensor, "2 unit gates"],
    *,
    hard_gates: bool,
) -> Float[Tensor, "2 batch unit"]:
    """Maximum over time of each unit's output."""
    units = recurrent_kernel.shape[1]
    state = output = inputs.new_zeros(2, inputs.shape[2], units)
    largest = torch.full_like(output, -1.0)
    for step in inputs:
        gates = torch.baddbmm(step, output, recurrent_kernel)
        opened = (0.2 * gates + 0.5).clamp(0, 1) if hard_gates else gates.sigmoid()
        admit, keep, _, emit = opened.split(units, dim=-1)
        state = keep * state + admit * gates[..., 2 * units : 3 * units].tanh()
        output = emit * state.tanh()
        largest = torch.maximum(largest, output)
    return largest


@dataclass(frozen=True)
class KerasBiLstmScorer:
    """The probability of ``toxic`` under a Keras BiLSTM."""

    name: str
    version: str
    sha256: str
    weights: Weights
    tokenizer: KerasTokenizer
    hard_gates: bool = False
    rescale_from: tuple[float, float] = (0.0, 1.0)
    """This range of probabilities is stretched to [0, 1]."""

    def score(self, texts: Sequence[str]) -> list[float]:
        """Probability of ``toxic`` for each text, rescaled."""
        low, high = self.rescale_from
        toxic = self.probabilities(texts)[:, LABELS.index("toxic")].double()
        # the absolute value is the package's own; without the clamp 1.0001 is possible
        return ((toxic - low) / (high - low)).abs().clamp(max=1).tolist()

    def probabilities(self, texts: Sequence[str]) -> Float[Tensor, "batch 6"]:
        """Probability of each of ``LABELS`` as the network gives it, before any rescaling."""
        word_ids = [self.tokenizer.encode(text, MAX_WORDS) for text in texts]
        empty = [[0] * MAX_WORDS] * (-len(word_ids) % BATCH_SIZE)
        rows = torch.tensor(word_ids + empty, dtype=torch.long).reshape(-1, MAX_WORDS)
        batches = [
            label_probabilities(self.weights, batch, hard_gates=self.hard_gates)
            for batch in rows.split(BATCH_SIZE)
        ]
        return torch.cat(batches)[: len(word_ids)]
