"""Names of weights, and folders that hold them whole or not at all."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch

from acft.atomic import partial_folder
from acft.backbone.adapters import trainable_state
from acft.backbone.loading import Backbone
from acft.distributed import ranks
from acft.errors import ModelError


def digest(backbone: Backbone) -> str:
    """Names trainable weights by their content, so that no name can mean others."""
    digest = hashlib.sha256(backbone.sha256.encode())
    for name, value in trainable_state(backbone.model).items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def write_once(folder: Path, write: Callable[[Path], None]) -> None:
    """``folder`` as ``write`` fills it, whole or not at all; nothing where it is there.

    Processes that train together call it together: the first one writes, and the others wait.

    Raises:
        ModelError: The disk is full or the folder cannot be written.
    """
    if ranks().rank == 0 and not folder.is_dir():
        _write(folder, write)
    ranks().from_first(None)


def _write(folder: Path, write: Callable[[Path], None]) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with partial_folder(folder.parent) as temporary:
            made = Path(temporary) / folder.name
            made.mkdir(mode=0o755)
            write(made)
            made.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # else another run was faster
            raise ModelError(
                f"cannot leave weights for the rollout server in {str(folder.parent)!r}: {error}; "
                "set [engine] folder or ACFT_ENGINE_FOLDER to another place"
            ) from None
