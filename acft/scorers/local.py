"""Scorers called ``model:PATH[#label]``: a sequence-classification model in a local folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from acft.errors import ModelError

PREFIX = "model:"

TOXIC_LABELS = ("toxic", "toxicity")
"""Labels taken when the name has no ``#label``; case does not matter."""


@dataclass(frozen=True)
class LocalModel:
    """A folder that holds a classification model, and which of its outputs is the score."""

    folder: Path
    label_index: int
    activation: Literal["sigmoid", "softmax"]
    """Sigmoid where labels are independent of each other, softmax where one excludes the others."""

    @property
    def weight_files(self) -> list[Path]:
        """The safetensors files, sorted."""
        return sorted(self.folder.glob("*.safetensors"))


def is_local(name: str) -> bool:
    """Whether a scorer's name stands for a local folder."""
    return name.startswith(PREFIX)


def find_local(name: str) -> LocalModel:
    """The model a name stands for; reads its ``config.json`` only.

    Raises:
        ModelError: No such folder, no safetensors in it, or no such label.
    """
    path, _, label = name.removeprefix(PREFIX).partition("#")
    folder = Path(path).expanduser()
    settings = _read_settings(folder, name)
    labels = settings.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    is_multi_label = settings.get("problem_type") == "multi_label_classification"
    model = LocalModel(
        folder=folder,
        label_index=_label_index(labels, label, name),
        activation="sigmoid" if is_multi_label or len(labels) == 1 else "softmax",
    )
    if not model.weight_files:
        raise ModelError(
            f"scorer {name!r}: {str(folder)!r} holds no .safetensors file; pickled weights are not "
            "loaded, save the model again with safetensors"
        )
    return model


def _read_settings(folder: Path, name: str) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"scorer {name!r}: cannot read {str(file)!r} ({error}); give the folder that "
            "save_pretrained wrote"
        ) from None
    if not isinstance(settings, dict):
        raise ModelError(f"scorer {name!r}: {str(file)!r} is not a model's configuration")
    return settings


def _label_index(labels: dict[str, str], wanted: str, name: str) -> int:
    accepted = (wanted.lower(),) if wanted else TOXIC_LABELS
    found = [index for index, label in labels.items() if str(label).lower() in accepted]
    if not wanted and len(labels) == 1:
        found = list(labels)
    if len(found) != 1:
        raise ModelError(
            f"scorer {name!r}: {'no label' if not found else 'more than one label'} "
            f"{' or '.join(map(repr, accepted))} in that model; add # and one of "
            f"{', '.join(map(str, labels.values()))}"
        )
    return int(found[0])
