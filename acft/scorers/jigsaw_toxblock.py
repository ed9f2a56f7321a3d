"""BiLSTM of the package tox-block, trained on the Jigsaw comments; the default training scorer."""

from functools import partial

from acft.assets import asset, asset_path
from acft.atomic import sha256
from acft.scorers.base import SCORERS, Scorer, ScorerEntry, missing_assets

NAME = "jigsaw_toxblock"
PACKAGE = "tox-block"

TOXIC_RANGE = (0.002116, 0.999858)
"""Source: tox_block/config/config.py, RESCALE_PROBA["toxic"]."""


def _load(_device: str) -> Scorer:
    from acft.scorers.ports.keras_bilstm import (  # noqa: PLC0415 - loads torch
        ArrayNames,
        Classifier,
        KerasBiLstmScorer,
        read_weights,
    )
    from acft.scorers.ports.keras_pickle import read_tokenizer  # noqa: PLC0415

    lstm = "model_weights/bidirectional/bidirectional"
    arrays = ArrayNames(
        embedding="model_weights/embedding/embedding/embeddings:0",
        forward=_lstm_arrays(f"{lstm}/forward_lstm"),
        backward=_lstm_arrays(f"{lstm}/backward_lstm"),
        hidden=_dense_arrays("dense"),
        output=_dense_arrays("dense_1"),
    )
    folder = asset_path(PACKAGE) / "tox_block" / "trained_models"
    weights_path = folder / "lstm_model_0.1.2.h5"
    return KerasBiLstmScorer(
        name=NAME,
        version=asset(PACKAGE).version,
        sha256=sha256(weights_path),
        # "recurrent_activation": "hard_sigmoid" in the file's model_config
        classifier=Classifier(read_weights(weights_path, arrays), hard_gates=True),
        tokenizer=read_tokenizer(folder / "encoder_0.1.2.pkl"),
        rescale_from=TOXIC_RANGE,
    )


def _lstm_arrays(layer: str) -> tuple[str, str, str]:
    return f"{layer}/kernel:0", f"{layer}/recurrent_kernel:0", f"{layer}/bias:0"


def _dense_arrays(layer: str) -> tuple[str, str]:
    return f"model_weights/{layer}/{layer}/kernel:0", f"model_weights/{layer}/{layer}/bias:0"


SCORERS.add(NAME)(
    ScorerEntry(
        load=_load,
        summary="Jigsaw toxicity, bidirectional LSTM of tox-block.",
        licence="MIT; trained on CC0 comments",
        is_packaged=True,
        where="make assets",
        problem=partial(missing_assets, PACKAGE),
    )
)
