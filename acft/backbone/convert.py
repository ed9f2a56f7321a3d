"""A packaged GGUF model becomes a folder of safetensors, once; opening it later takes a second."""

import json
import shutil
import struct
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from acft.assets import (
    PACKAGED_MODELS,
    asset_path,
    converted_model_folder,
    packaged_models,
)
from acft.atomic import partial_folder, sha256
from acft.errors import DataError, ModelError

RECORD = "conversion.json"
"""Written last into a converted folder: hashes of the source and of every file made from it."""


def ensure_models(report: Callable[[str], None]) -> None:
    """Converts every packaged model that is not there yet; what is there is verified.

    Raises:
        ModelError: A package is missing or its model cannot be read.
        DataError: The disk is full.
    """
    for name in packaged_models():
        destination = converted_model_folder(name)
        if is_converted(destination):
            continue
        report(f"converting {name} to safetensors (once, under a minute)")
        model = PACKAGED_MODELS[name]
        convert_gguf(asset_path(model.package) / model.file, destination)


def convert_gguf(source: Path, destination: Path) -> None:
    """Writes a GGUF model as float32 safetensors with its tokenizer and a record of hashes.

    A folder that was converted before and whose files still have their hashes is left as it is.

    Raises:
        ModelError: ``source`` is missing or is no GGUF file of a known architecture.
        DataError: The disk is full or the folder cannot be written.
    """
    if is_converted(destination):
        return
    if not source.is_file():
        raise ModelError(
            f"no GGUF file at {str(source)!r}; check the name, or run "
            "'make assets' for a packaged one"
        )
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with partial_folder(destination.parent) as temporary:
            folder = Path(temporary) / "model"
            _write_safetensors(source, folder)
            _write_record(source, folder)
            if is_converted(destination):  # another process was faster, and may use it already
                return
            shutil.rmtree(destination, ignore_errors=True)
            folder.rename(destination)
    except OSError as error:
        if is_converted(destination):
            return
        raise DataError(f"cannot write {str(destination)!r}: {error}; is the disk full?") from None


def is_converted(folder: Path) -> bool:
    """Whether a folder holds a complete conversion whose files have their recorded hashes."""
    record = folder / RECORD
    if not record.is_file():
        return False
    hashes = json.loads(record.read_text(encoding="utf-8"))["files"]
    return all(
        (folder / name).is_file() and sha256(folder / name) == digest
        for name, digest in hashes.items()
    )


def _write_safetensors(source: Path, folder: Path) -> None:
    # transformers takes seconds to import and most runs never convert
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: PLC0415

    place = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**place)
        # without dequantize the weights stay marked as quantized and cannot be trained or saved
        opened: Any = AutoModelForCausalLM.from_pretrained(
            **place, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
    except (ValueError, KeyError, RuntimeError, struct.error) as error:
        raise ModelError(f"{str(source)!r} does not open as a GGUF model: {error}") from error
    model, told = opened
    if lost := sorted({*told["missing_keys"], *(name for name, *_ in told["mismatched_keys"])}):
        raise ModelError(
            f"{str(source)!r} lacks {len(lost)} of the model's weights ({lost[0]}, ...), which "
            "would be random; join the parts of a split file first (gguf-split --merge)"
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _write_record(source: Path, folder: Path) -> None:
    record = {
        "source": source.name,
        "source_sha256": sha256(source),
        "versions": {name: version(name) for name in ("transformers", "gguf", "torch")},
        "files": {file.name: sha256(file) for file in sorted(folder.iterdir())},
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
