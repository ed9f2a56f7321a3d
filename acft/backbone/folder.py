"""What can be told of a model's folder, which may come from anybody, before anything opens it."""

import hashlib
import json
import stat
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from math import prod
from pathlib import Path
from typing import Any

from acft.errors import ModelError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TEXTS = ("*.json", "*.jinja", "*.txt", "*.model", "additional_chat_templates/*")
"""Files of which parts can come back in prompts, tokenizers and exports."""
SAYS_NOTHING = ("*.index.json", "conversion.json", ".*")
"""Those of them that change nothing about what is said and how it is read."""
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
"""What settings of models call the number of layers."""
ATTENTION = ("attn_implementation", "_attn_implementation")
"""What settings of models call the code that computes attention."""
LENGTH_BYTES = 8
"""In front of the header of a safetensors file, whose length they are."""
HEADER_BYTES_MAX = 100_000_000
"""Source: the safetensors format."""


def check_folder(folder: Path, name: str) -> int:
    """How many weights the folder of a model holds; nothing is opened but what describes them.

    Raises:
        ModelError: It is not whole, leads elsewhere, holds weights in a form that cannot be tuned,
            or describes another model than its weights are.
    """
    try:
        return _checked(folder)
    except (_UnfitError, OSError) as fault:
        raise ModelError(f"[model] name = {name!r} {fault}") from None


def texts_sha256(folder: Path) -> str:
    """SHA-256 over the files beside the weights: tokenizer, chat template, settings of the model.

    The same weights say something else with others.
    """
    digest = hashlib.sha256()
    for file in _texts(folder):
        if not any(fnmatch(file.name, pattern) for pattern in SAYS_NOTHING):
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{file.relative_to(folder).as_posix()}\x1f{content}\n".encode())
    return digest.hexdigest()


def _texts(folder: Path) -> list[Path]:
    return sorted({file for pattern in TEXTS for file in folder.glob(pattern)})


class _UnfitError(Exception):
    """What is wrong with a folder and what to do, to follow its name."""


def _checked(folder: Path) -> int:
    _require_own_texts(folder)
    if (folder / "adapter_config.json").exists():
        raise _UnfitError(
            "holds an adapter (adapter_config.json), which belongs to a model elsewhere; merge the "
            "two first and name the folder of whole weights"
        )
    config = _table(folder / "config.json")
    _table(folder / "generation_config.json")
    if config.get("quantization_config") is not None:
        raise _UnfitError(
            "has quantised weights (quantization_config in config.json), which cannot be tuned; "
            "name the original model, [model] quantization stores it in fewer bits"
        )
    if kernel := next(_foreign_kernels(config), None):
        raise _UnfitError(
            f"asks in config.json for code from elsewhere to compute attention, {kernel!r}; remove "
            "that setting there"
        )
    sizes = [shape for file in _weight_files(folder) for shape in _shapes(file)]
    layers = max(_numbers_of_layers(config), default=0)
    if layers > len(sizes):
        raise _UnfitError(
            f"is described in config.json as a model of {layers:,} layers, but its files hold "
            f"{len(sizes):,} weights in all; take config.json and weights of one model"
        )
    return sum(map(prod, sizes))


def _require_own_texts(folder: Path) -> None:
    cache = folder.parent.parent if folder.parent.name == "snapshots" else folder
    inside = (folder.resolve(), cache.resolve())  # the hub's cache links to files beside
    for file in _texts(folder):
        if file.is_symlink() and not any(file.resolve().is_relative_to(own) for own in inside):
            raise _UnfitError(
                f"has a link out of the folder, {file.name!r}; put the file itself there"
            )
        if not stat.S_ISREG(file.stat().st_mode):
            raise _UnfitError(
                f"has {file.name!r}, which is no plain file; put the file itself there"
            )


def _table(file: Path) -> dict[str, Any]:
    """What a file says in JSON; empty where there is no such file."""
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _UnfitError(f"has a damaged {file.name} ({error}); copy it again") from None
    if not isinstance(found, dict):
        raise _UnfitError(f"has a {file.name} that is no JSON object; copy it again")
    return found


def _weight_files(folder: Path) -> list[Path]:
    """The files that would be opened, by the order in which transformers looks for them."""
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if not (folder / INDEX).exists():
        raise _UnfitError(f"has neither {WEIGHTS} nor {INDEX}; name the files so, or save it again")
    places = _table(folder / INDEX).get("weight_map")
    names = set(places.values()) if isinstance(places, Mapping) else set[Any]()
    if not names:
        raise _UnfitError(f"has a damaged {INDEX}; copy it again")
    for file in names:
        if (
            not isinstance(file, str)
            or Path(file).name != file
            or Path(file).suffix != ".safetensors"
        ):
            raise _UnfitError(
                f"has an {INDEX} that names {file!r}; weights must be .safetensors files of the "
                "folder itself, other formats can execute code when opened"
            )
    return [folder / file for file in sorted(names)]


def _shapes(file: Path) -> Iterator[list[int]]:
    """Shape of each weight in a safetensors file, from its header alone."""
    again = "copy it again"
    if not file.is_file():
        raise _UnfitError(f"lacks its file {file.name!r}; {again}")
    size = file.stat().st_size
    with file.open("rb") as handle:
        length = int.from_bytes(handle.read(LENGTH_BYTES), "little")
        if size < LENGTH_BYTES or length > min(HEADER_BYTES_MAX, size):
            raise _UnfitError(f"has a damaged file {file.name!r}, {size:,} bytes long; {again}")
        try:
            header = json.loads(handle.read(length))
            weights = [entry for key, entry in header.items() if key != "__metadata__"]
            ends = [int(entry["data_offsets"][1]) for entry in weights]
            shapes = [[int(n) for n in entry["shape"]] for entry in weights]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise _UnfitError(
                f"has a damaged file {file.name!r}, whose header is no JSON of safetensors; {again}"
            ) from None
    whole = LENGTH_BYTES + length + max(ends, default=0)
    if whole != size:
        raise _UnfitError(
            f"has a file {file.name!r} of {size:,} bytes that should have {whole:,}; {again}"
        )
    yield from shapes


def _parts(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [config, *(part for part in config.values() if isinstance(part, Mapping))]


def _numbers_of_layers(config: Mapping[str, Any]) -> Iterator[int]:
    for part in _parts(config):
        yield from (part[key] for key in LAYERS if isinstance(part.get(key), int))


def _foreign_kernels(config: Mapping[str, Any]) -> Iterator[str]:
    """What transformers would download and run; the names of its own kernels have no slash."""
    for part in _parts(config):
        yield from (str(part[key]) for key in ATTENTION if "/" in str(part.get(key)))
