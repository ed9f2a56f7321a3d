"""BiLSTM of the package toxic-comment-classifier, trained on the Jigsaw comments."""

from functools import partial

from acft.assets import asset, asset_path
from acft.atomic import sha256
from acft.scorers.base import SCORERS, Scorer, ScorerEntry, missing_assets

NAME = "jigsaw_tcc"
PACKAGE = "toxic-comment-classifier"


def _load(_device: str) -> Scorer:
    from acft.scorers.ports.keras_bilstm import (  # noqa: PLC0415 - loads torch
        ArrayNames,
        Classifier,
        KerasBiLstmScorer,
        read_weights,
    )
    from acft.scorers.ports.keras_pickle import read_tokenizer  # noqa: PLC0415

    arrays = ArrayNames(
        embedding="layers/embedding/vars/0",
        forward=_lstm_arrays("forward_layer"),
        backward=_lstm_arrays("backward_layer"),
        hidden=("layers/dense/vars/0", "layers/dense/vars/1"),
        output=("layers/dense_1/vars/0", "layers/dense_1/vars/1"),
    )
    folder = asset_path(PACKAGE) / "toxic_classifier" / "model"
    weights_path = folder / "model.weights.h5"
    return KerasBiLstmScorer(
        name=NAME,
        version=asset(PACKAGE).version,
        sha256=sha256(weights_path),
        classifier=Classifier(read_weights(weights_path, arrays), hard_gates=False),
        tokenizer=read_tokenizer(folder / "tokenizer.pickle"),
    )


def _lstm_arrays(layer: str) -> tuple[str, str, str]:
    cell = f"layers/bidirectional/{layer}/cell/vars"
    return f"{cell}/0", f"{cell}/1", f"{cell}/2"


SCORERS.add(NAME)(
    ScorerEntry(
        load=_load,
        summary="Jigsaw toxicity, bidirectional LSTM of toxic-comment-classifier.",
        licence="MIT; trained on CC0 comments",
        is_packaged=True,
        where="make assets",
        problem=partial(missing_assets, PACKAGE),
    )
)
