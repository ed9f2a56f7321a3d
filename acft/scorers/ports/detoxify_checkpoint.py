"""Reads detoxify checkpoints as data, never as code, and builds the model from a configuration.

The package itself unpickles the whole file and asks the hub for the base model even when it has
a local configuration; so only the addresses are taken from it.
"""

import pickle
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from acft.atomic import sha256
from acft.errors import ModelError
from acft.scorers.local import TOXIC_LABELS
from acft.scorers.ports.transformer import TransformerScorer


class Checkpoint(NamedTuple):
    """What a checkpoint holds that is needed."""

    weights: dict[str, torch.Tensor]
    n_outputs: int
    label_index: int


def load_folder(name: str, folder: Path, device: str) -> TransformerScorer:
    """The scorer of a folder with a checkpoint, ``config.json`` and tokenizer files.

    Raises:
        ModelError: A file is missing, is not what it should be or holds more than plain data.
    """
    files = sorted(folder.glob("*.ckpt"))
    if len(files) != 1:
        raise ModelError(
            f"scorer {name!r}: {str(folder)!r} holds {len(files)} *.ckpt files; leave exactly one"
        )
    return _load(name, files[0], str(folder), device, is_local=True)


def download(name: str, variant: str, base_model: str, device: str) -> TransformerScorer:
    """The scorer from detoxify's release page and the base model's files from the hub.

    Raises:
        ModelError: Not online, or a file is not what it should be.
    """
    from detoxify.detoxify import MODEL_URLS  # noqa: PLC0415 - only its addresses are used

    address = MODEL_URLS[variant]
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(address).path).name
    try:
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            hash_prefix = file.stem.rpartition("-")[2]  # as torch.hub reads it from the name
            torch.hub.download_url_to_file(address, str(file), hash_prefix, progress=False)
    except (OSError, RuntimeError) as error:  # RuntimeError: the hash differs
        raise ModelError(
            f"scorer {name!r}: cannot download {address} ({error}); set ACFT_DETOXIFY to a folder "
            f"with {variant}/*.ckpt, {variant}/config.json and the tokenizer of {base_model}"
        ) from None
    return _load(name, file, base_model, device, is_local=False)


def read_checkpoint(file: Path) -> Checkpoint:
    """The needed parts of a checkpoint.

    Raises:
        ModelError: The file cannot be read as tensors and plain values.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        settings = content["config"]
        labels = [str(label).lower() for label in settings["dataset"]["args"]["classes"]]
        return Checkpoint(
            weights=content["state_dict"],
            n_outputs=int(settings["arch"]["args"]["num_classes"]),
            label_index=next(place for place, label in enumerate(labels) if label in TOXIC_LABELS),
        )
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise ModelError(
            f"checkpoint {str(file)!r} cannot be read as tensors and plain values, anything else "
            f"is refused: {_first_line(error)}"
        ) from None
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise ModelError(
            f"checkpoint {str(file)!r} is not detoxify's: {type(error).__name__} {error}; it needs "
            "state_dict, config.arch.args.num_classes and config.dataset.args.classes"
        ) from None


def _load(name: str, file: Path, source: str, device: str, *, is_local: bool) -> TransformerScorer:
    checkpoint = read_checkpoint(file)
    options: dict[str, Any] = {"local_files_only": is_local, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(source, num_labels=checkpoint.n_outputs, **options)
        model = AutoModelForSequenceClassification.from_config(config)
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        found = model.load_state_dict(checkpoint.weights, strict=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"scorer {name!r}: {source!r} does not fit {file.name}: {error}") from None
    # older transformers stored the positions, which are constants
    unexpected = [key for key in found.unexpected_keys if not key.endswith("position_ids")]
    if found.missing_keys or unexpected:
        raise ModelError(
            f"scorer {name!r}: {len(found.missing_keys)} weights are missing in {file.name} and "
            f"{len(unexpected)} are not part of {source!r}; take the base model's config.json"
        )
    return TransformerScorer(
        name=name,
        version=file.stem,
        sha256=sha256(file),
        model=model.to(device).eval(),
        tokenizer=tokenizer,
        label_index=checkpoint.label_index,
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
