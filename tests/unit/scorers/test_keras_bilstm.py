import h5py
import pytest
import torch
from torch import nn

from acft.errors import ModelError
from acft.scorers.ports.keras_bilstm import (
    BATCH_SIZE,
    LABELS,
    ArrayNames,
    Classifier,
    KerasBiLstmScorer,
    Weights,
    read_weights,
)
from acft.scorers.ports.keras_pickle import KerasTokenizer

UNITS, INPUTS, WORDS, HIDDEN = 5, 4, 9, 3
NAMES = ArrayNames("e", ("fk", "fr", "fb"), ("bk", "br", "bb"), ("hk", "hb"), ("ok", "ob"))


def random_weights(seed=0):
    random = torch.Generator().manual_seed(seed)

    def array(*shape):
        return torch.randn(*shape, generator=random)

    return Weights(
        embedding=array(WORDS, INPUTS),
        kernel=array(2, INPUTS, 4 * UNITS),
        recurrent_kernel=array(2, UNITS, 4 * UNITS),
        bias=array(2, 1, 4 * UNITS),
        hidden_kernel=array(2 * UNITS, HIDDEN),
        hidden_bias=array(HIDDEN),
        output_kernel=array(HIDDEN, len(LABELS)),
        output_bias=array(len(LABELS)),
    )


def pytorch_lstm(weights):
    """The same LSTM of PyTorch: its gates have the same order, its kernels are transposed."""
    lstm = nn.LSTM(INPUTS, UNITS, bidirectional=True)
    for direction, suffix in enumerate(["l0", "l0_reverse"]):
        getattr(lstm, f"weight_ih_{suffix}").data = weights.kernel[direction].T.contiguous()
        getattr(lstm, f"weight_hh_{suffix}").data = weights.recurrent_kernel[
            direction
        ].T.contiguous()
        getattr(lstm, f"bias_ih_{suffix}").data = weights.bias[direction, 0]
        getattr(lstm, f"bias_hh_{suffix}").data = torch.zeros(4 * UNITS)
    return lstm


@torch.inference_mode()
def by_pytorch(weights, word_ids):
    """Probabilities of the labels, with sigmoid gates."""
    outputs, _ = pytorch_lstm(weights)(weights.embedding[word_ids.T])
    hidden = torch.relu(outputs.amax(0) @ weights.hidden_kernel + weights.hidden_bias)
    return torch.sigmoid(hidden @ weights.output_kernel + weights.output_bias)


WORD_IDS = torch.randint(WORDS, (BATCH_SIZE, 11), generator=torch.Generator().manual_seed(1))


def test_with_sigmoid_gates_it_is_pytorchs_lstm():
    weights = random_weights()
    expected = by_pytorch(weights, WORD_IDS)
    found = Classifier(weights, hard_gates=False).probabilities(WORD_IDS)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_zeros_that_all_texts_begin_with_are_read_like_words():
    weights = random_weights()
    word_ids = WORD_IDS.clamp(min=1)
    word_ids[:, :4] = 0
    word_ids[0, :9] = 0
    expected = by_pytorch(weights, word_ids)
    found = Classifier(weights, hard_gates=False).probabilities(word_ids)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_hard_gates_are_another_network():
    soft, hard = (
        Classifier(random_weights(), hard_gates=gates).probabilities(WORD_IDS)
        for gates in (False, True)
    )
    assert (soft - hard).abs().max() > 0.01


def test_hard_gates_by_hand_for_one_step():
    """All kernels 0, so gates follow from the bias alone.

    i = clip(0.2*1 + 0.5) = 0.7, o = clip(0.2*5 + 0.5) = 1, g = tanh(2): output tanh(0.7 tanh 2).
    """
    zeros = {name: torch.zeros_like(value) for name, value in vars(random_weights()).items()}
    bias = torch.cat([torch.full((UNITS,), x) for x in (1.0, 0.0, 2.0, 5.0)]).expand(2, 1, -1)
    weights = Weights(
        **zeros
        | {
            "bias": bias,
            "hidden_kernel": torch.eye(2 * UNITS, HIDDEN),
            "output_kernel": torch.eye(HIDDEN, len(LABELS)),
        }
    )
    blanks = torch.zeros(BATCH_SIZE, 1, dtype=torch.long)
    found = Classifier(weights, hard_gates=True).probabilities(blanks)
    output = torch.tanh(0.7 * torch.tanh(torch.tensor(2.0)))
    torch.testing.assert_close(found[0, 0], torch.sigmoid(output))


def tiny_scorer(**settings):
    tokenizer = KerasTokenizer({f"w{n}": n for n in range(1, WORDS)}, filters=".")
    classifier = Classifier(random_weights(), hard_gates=False)
    return KerasBiLstmScorer("tiny", "1", "0", classifier, tokenizer, **settings)


def test_more_texts_than_a_batch_keep_their_order():
    texts = [" ".join(f"w{1 + n * k % 7}" for k in range(n % 29)) for n in range(3 * BATCH_SIZE)]
    scorer = tiny_scorer()
    assert scorer.score(texts) == [scorer.score([text])[0] for text in texts]


def test_rescaling_stretches_the_range_and_stays_within_0_and_1():
    (plain,) = tiny_scorer().score(["w1"])
    low, high = plain / 2, plain * 1.5
    assert tiny_scorer(rescale_from=(low, high)).score(["w1"]) == pytest.approx([0.5])
    assert tiny_scorer(rescale_from=(0.0, plain / 2)).score(["w1"]) == [1.0]


def save_weights(path, weights, *, without=()):
    arrays = {
        "e": weights.embedding, "fk": weights.kernel[0], "bk": weights.kernel[1],
        "fr": weights.recurrent_kernel[0], "br": weights.recurrent_kernel[1],
        "fb": weights.bias[0, 0], "bb": weights.bias[1, 0], "hk": weights.hidden_kernel,
        "hb": weights.hidden_bias, "ok": weights.output_kernel, "ob": weights.output_bias,
    }  # fmt: skip
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            if name not in without:
                file[name] = array.numpy()
    return path


def test_weights_are_read_back_as_they_were_written(tmp_path):
    written = random_weights()
    read = read_weights(save_weights(tmp_path / "w.h5", written), NAMES)
    for name, array in vars(written).items():
        torch.testing.assert_close(getattr(read, name), array, rtol=0, atol=0)


def test_a_missing_array_is_an_error_that_names_file_and_remedy(tmp_path):
    path = save_weights(tmp_path / "w.h5", random_weights(), without=["br"])
    with pytest.raises(ModelError, match=r"w\.h5.*br.*make assets"):
        read_weights(path, NAMES)


@pytest.mark.parametrize("content", [None, b"no weights"])
def test_a_missing_or_damaged_file_is_an_error_that_names_it(tmp_path, content):
    path = tmp_path / "w.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"cannot read weights .*w\.h5"):
        read_weights(path, NAMES)
