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


class _State(NamedTuple):
    """An LSTM between two words."""

    cell: Float[Tensor, "batch unit"]
    output: Float[Tensor, "batch unit"]
    largest: Float[Tensor, "batch unit"]
    """Of each unit's outputs so far."""


@dataclass(frozen=True)
class _Lstm:
    """One direction; the gates lie as i f o g."""

    words: Float[Tensor, "word gates"]
    """What each word of the vocabulary adds to the gates."""
    recurrent_kernel: Float[Tensor, "unit gates"]
    hard_gates: bool

    @classmethod
    def of(cls, weights: Weights, direction: int, *, hard_gates: bool) -> "_Lstm":
        """One of the two directions of a classifier."""
        # clip(0.2 x + 0.5, 0, 1), of which only the clip is left for each step
        scale, shift = (0.2, 0.5) if hard_gates else (1.0, 0.0)
        words = weights.embedding @ weights.kernel[direction] + weights.bias[direction]
        recurrent_kernel = weights.recurrent_kernel[direction]
        return cls(
            _candidate_last(words, scale, shift),
            _candidate_last(recurrent_kernel, scale),
            hard_gates,
        )

    def before(self, batch: int) -> _State:
        """The state before the first word."""
        zeros = self.words.new_zeros(batch, len(self.recurrent_kernel))
        return _State(zeros, zeros, torch.full_like(zeros, -1.0))

    def after(self, state: _State, word_ids: Int[Tensor, "time batch"]) -> _State:
        """The state after these words."""
        cell, output, largest = state
        units = cell.shape[1]
        for step in self.words[word_ids]:
            gates = torch.addmm(step, output, self.recurrent_kernel)
            opened, candidate = gates[:, : 3 * units], gates[:, 3 * units :].tanh()
            opened = opened.clamp(0, 1) if self.hard_gates else opened.sigmoid()
            admit, keep, emit = opened.split(units, dim=1)
            cell = torch.addcmul(admit * candidate, keep, cell)
            output = emit * cell.tanh()
            largest = torch.maximum(largest, output)
        return _State(cell, output, largest)


def _candidate_last(
    gates: Float[Tensor, "row gates"], scale: float, shift: float = 0.0
) -> Float[Tensor, "row gates"]:
    """The gates i f g o as i f o g, all but g scaled and shifted."""
    admit, keep, candidate, emit = gates.chunk(4, dim=1)
    return torch.cat([*(scale * gate + shift for gate in (admit, keep, emit)), candidate], dim=1)


class Classifier:
    """Probabilities of labels, by word ids."""

    @torch.inference_mode()
    def __init__(self, weights: Weights, *, hard_gates: bool) -> None:
        """Take the arrays of a Keras file.

        Args:
            weights: Arrays of the classifier.
            hard_gates: Gates are clip(0.2 x + 0.5, 0, 1), the default of old Keras, not the
                sigmoid.
        """
        self._weights = weights
        self._forward = _Lstm.of(weights, 0, hard_gates=hard_gates)
        self._backward = _Lstm.of(weights, 1, hard_gates=hard_gates)
        self._after_blanks = [self._forward.before(BATCH_SIZE)]
        blank = torch.zeros(1, BATCH_SIZE, dtype=torch.long)
        for _ in range(MAX_WORDS):
            self._after_blanks.append(self._forward.after(self._after_blanks[-1], blank))

    @torch.inference_mode()
    def probabilities(self, word_ids: Int[Tensor, "batch time"]) -> Float[Tensor, "batch label"]:
        """Probability of each label of ``BATCH_SIZE`` texts, best of like length.

        Args:
            word_ids: Zeros before the words; they are read like words, as in training. Those that
                all texts begin with have been read already.
        """
        weights = self._weights
        in_order = word_ids.T
        n_blanks = int((in_order == 0).all(dim=1).cumprod(dim=0).sum())
        forward = self._forward.after(self._after_blanks[n_blanks], in_order[n_blanks:])
        backward = self._backward.after(self._backward.before(len(word_ids)), in_order.flip(0))
        pooled = torch.cat([forward.largest, backward.largest], dim=-1)
        hidden = torch.relu(pooled @ weights.hidden_kernel + weights.hidden_bias)
        # so narrow a float32 product rounds rows differently by where in the batch they stand
        logits = hidden.double() @ weights.output_kernel.double() + weights.output_bias
        return torch.sigmoid(logits.float())


@dataclass(frozen=True)
class KerasBiLstmScorer:
    """The probability of ``toxic`` under a Keras BiLSTM."""

    name: str
    version: str
    sha256: str
    classifier: Classifier
    tokenizer: KerasTokenizer
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
        if not texts:
            return torch.empty(0, len(LABELS))
        encoded = [tuple(self.tokenizer.encode(text, MAX_WORDS)) for text in texts]
        distinct = sorted(set(encoded))  # by their zeros, so by length
        rows = [(0,) * MAX_WORDS] * (-len(distinct) % BATCH_SIZE) + distinct
        found = [self.classifier.probabilities(b) for b in torch.tensor(rows).split(BATCH_SIZE)]
        places = {row: place for place, row in enumerate(rows)}
        return torch.cat(found)[[places[row] for row in encoded]]
