"""The three detoxify models: from a local folder, or downloaded by their own addresses when online.

``ACFT_DETOXIFY`` is a folder with a subfolder for each variant (``original``, ``unbiased``,
``multilingual``) that holds the checkpoint (``*.ckpt``), ``config.json`` and the tokenizer's files.
"""

import os
from functools import partial
from pathlib import Path

from acft.scorers.base import SCORERS, Scorer, ScorerEntry

ENVIRONMENT = "ACFT_DETOXIFY"

BASE_MODELS = {
    "original": "bert-base-uncased",
    "unbiased": "roberta-base",
    "multilingual": "xlm-roberta-base",
}
"""Whose architecture and tokenizer each variant has. Source: the checkpoints' arch.args."""

_TRAINED_ON = {
    "original": "Jigsaw comments, English",
    "unbiased": "Jigsaw unintended bias, English; least biased by identity terms",
    "multilingual": "Jigsaw multilingual, seven languages",
}


def local_folder(variant: str) -> Path | None:
    """Where the variant's files should lie, or None when no folder is set."""
    root = os.environ.get(ENVIRONMENT)
    return Path(root).expanduser() / variant if root else None


def _load(variant: str, device: str) -> Scorer:
    from acft.scorers.ports import detoxify_checkpoint  # noqa: PLC0415 - loads torch

    name = _name(variant)
    folder = local_folder(variant)
    if folder is None:
        return detoxify_checkpoint.download(name, variant, BASE_MODELS[variant], device)
    return detoxify_checkpoint.load_folder(name, folder, device)


def _problem(variant: str) -> str:
    folder = local_folder(variant)
    if folder is None:
        is_offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
        return f"offline; set {ENVIRONMENT} to a folder with its files" if is_offline else ""
    missing = [kind for kind in ("*.ckpt", "config.json") if not any(folder.glob(kind))]
    if missing:
        return f"{ENVIRONMENT} is set, but {str(folder)!r} has no {' and no '.join(missing)}"
    return ""


def _name(variant: str) -> str:
    return f"detoxify_{variant}"


for _variant in BASE_MODELS:
    SCORERS.add(_name(_variant))(
        ScorerEntry(
            load=partial(_load, _variant),
            summary=f"Detoxify {_variant!r}, {_TRAINED_ON[_variant]}.",
            licence="Apache-2.0",
            is_packaged=False,
            where=f"downloaded when online, or a folder named by {ENVIRONMENT}",
            problem=partial(_problem, _variant),
        )
    )
