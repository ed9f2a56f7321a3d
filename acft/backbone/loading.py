"""Finding and opening a causal language model: local directory, packaged model, then hub."""

import hashlib
import json
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
)
from transformers.utils.logging import disable_progress_bar

from acft.assets import converted_model_folder, packaged_model_path, packaged_models
from acft.atomic import replace_json
from acft.backbone import toy
from acft.backbone.attention import group_heads
from acft.backbone.fitness import check_finite, check_model_fits, check_tokens
from acft.backbone.folder import check_folder, texts_sha256
from acft.backbone.forward import text_config
from acft.backbone.products import lay_out_by_input, use_wide_vectors
from acft.backbone.quantized import loading_options, make_shareable
from acft.backbone.sharded import is_divided, shard
from acft.errors import ModelError
from acft.machine import peak_memory
from acft.registry import did_you_mean
from acft.settings import ModelSettings

NOT_A_MODEL = (
    OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError, ImportError,
    RuntimeError, SafetensorError,
)  # fmt: skip
"""What transformers raises for folders that hold something else, or damaged files."""

PLAINLY = {
    "ignore_mismatched_sizes": "its weights have other shapes than config.json says; take both "
    "from one model",
    "contains custom code": "it needs code of its own, and code from a model's folder is never "
    "run; choose a model that transformers itself knows",
    "Unrecognized configuration class": "it is no decoder that continues text; choose one that is",
}
"""What transformers says, and what it means here."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}")


@dataclass(frozen=True)
class Backbone:
    """An opened model with its tokenizer and where both came from."""

    model: PreTrainedModel
    tokenizer: Any
    """Transformers declares the attributes of its tokenizers at run time only."""
    name: str
    source: str
    """local, packaged or hub."""
    sha256: str
    """Of all weight files, in name order."""
    texts_sha256: str = ""
    """Of tokenizer, chat template and settings; see ``folder.texts_sha256``."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of tokens, without special ones."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def spell(self, token_ids: Sequence[int]) -> str:
        """Text of tokens, special ones by their names."""
        return str(self.tokenizer.decode(list(token_ids)))

    @property
    def context_length(self) -> int:
        """Longest input in tokens."""
        return int(getattr(text_config(self.model), "max_position_embeddings", 1 << 30))

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Tokens that end a response: the tokenizer's end of text and those the model names.

        Models that were taught to answer may end their turns otherwise than texts.
        """
        named = getattr(self.model.generation_config, "eos_token_id", None)
        return _end_ids(self.tokenizer, named)


def _end_ids(tokenizer: Any, named: Any) -> tuple[int, ...]:
    ids = [tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])]
    return tuple(sorted({int(token_id) for token_id in ids if token_id is not None}))


def load_backbone(settings: ModelSettings, device: str, dtype: str) -> Backbone:
    """The model and tokenizer a run names, in evaluation mode with frozen weights.

    Raises:
        ModelError: Nothing of that name, no safetensors weights, or the files do not open.
    """
    path, source = _locate(settings)
    disable_progress_bar()
    kind = resolve_dtype(dtype, device)
    n_weights = check_folder(path, settings.name)
    if device == "cpu" and settings.quantization == "none":
        _require_memory(settings.name, n_weights * getattr(torch, kind).itemsize)
    if device == "cpu":
        use_wide_vectors()
    fewer_bits = loading_options(settings, device, getattr(torch, kind))
    try:
        tokenizer = _tokenizer(path)
        opened: Any = AutoModelForCausalLM.from_pretrained(
            path,
            output_loading_info=True,
            dtype=getattr(torch, kind),
            # on a CPU the fused kernel is slower for short texts; in bfloat16 it also rounds
            # otherwise, and exported weights are to give the same logits elsewhere
            attn_implementation="eager" if (device, kind) == ("cpu", "float32") else None,
            use_safetensors=True,
            trust_remote_code=False,
            **(fewer_bits or _placing(settings, device)),
        )
    except torch.OutOfMemoryError:  # which is one of the next
        raise
    except NOT_A_MODEL as error:
        raise ModelError(
            f"[model] name = {settings.name!r} does not open as a causal language model: "
            f"{_first_line(error)}"
        ) from error
    model, report = opened
    _require_all_weights(settings.name, report["missing_keys"])
    if model.config._attn_implementation == "eager":
        group_heads(model)
    if fewer_bits:
        make_shareable(model)
    elif is_divided(settings.sharding):
        check_finite(model, settings.name)
        shard(model, device)
    else:
        model.to(device)  # pyright: ignore[reportArgumentType]
        check_finite(model, settings.name)
        if device == "cpu":
            lay_out_by_input(model)
    model.eval().requires_grad_(requires_grad=False)
    # one that was added to the tokenizer alone has no row among the embeddings
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= text_config(model).vocab_size:
        tokenizer.pad_token = tokenizer.eos_token
    check_model_fits(model, settings.name)
    check_tokens(model, tokenizer, settings)
    sha256 = _identity(path, settings)
    return Backbone(model, tokenizer, settings.name, source, sha256, texts_sha256(path))


def _placing(settings: ModelSettings, device: str) -> dict[str, Any]:
    """What lets ``from_pretrained`` put each weight on a GPU as it is read; else nothing.

    Otherwise the whole model passes through the computer's memory, once for each process.
    """
    if device != "cuda" or is_divided(settings.sharding):
        return {}
    # by number, since it reads in threads, and those do not know which GPU is this process's
    return {"device_map": {"": f"cuda:{torch.cuda.current_device()}"}}


def load_tokenizer(settings: ModelSettings) -> Any:
    """The tokenizer of the model a run names, without its weights.

    Raises:
        ModelError: Nothing of that name, or the files do not open.
    """
    place = _small_files(settings)
    try:
        return _tokenizer(place, settings.revision or "main")
    except NOT_A_MODEL as error:
        raise ModelError(
            f"[model] name = {settings.name!r} has no tokenizer that opens: {_first_line(error)}"
        ) from error


def load_end_ids(settings: ModelSettings, tokenizer: Any) -> tuple[int, ...]:
    """Tokens that end a response, as ``Backbone.end_ids`` has them, without the weights.

    Raises:
        ModelError: Nothing of that name, or the files do not open.
    """
    place, revision = _small_files(settings), settings.revision or "main"
    try:
        try:
            told = GenerationConfig.from_pretrained(place, revision=revision)
        except OSError:  # it has no such file; whoever opens the model takes them from the other
            config = AutoConfig.from_pretrained(place, revision=revision, trust_remote_code=False)
            told = GenerationConfig.from_model_config(config)
    except NOT_A_MODEL as error:
        raise ModelError(
            f"[model] name = {settings.name!r} has no settings that open: {_first_line(error)}"
        ) from error
    return _end_ids(tokenizer, told.eos_token_id)


def _small_files(settings: ModelSettings) -> str:
    """Where to read what is not weights, of which none are fetched from a hub."""
    place, source = _source(settings)
    return place if source == "hub" else str(_locate(settings)[0])


def _tokenizer(place: str | Path, revision: str = "main") -> Any:
    """The tokenizer there, which puts nothing behind texts: here they are to go on."""
    tokenizer: Any = AutoTokenizer.from_pretrained(
        place, revision=revision, trust_remote_code=False
    )
    bare, whole = (tokenizer.encode("a", add_special_tokens=own) for own in (False, True))
    starts = [n for n in range(len(whole)) if bare and whole[n : n + len(bare)] == bare]
    if starts and starts[0] + len(bare) < len(whole):
        before = whole[: starts[0]]
        names = tokenizer.convert_ids_to_tokens(before)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=[*names, "$A"], special_tokens=[*zip(names, before, strict=True)]
        )
    return tokenizer


def _first_line(error: Exception) -> str:
    plainly = (said for sign, said in PLAINLY.items() if sign in str(error))
    return next(chain(plainly, str(error).strip().splitlines()), type(error).__name__)


def _require_memory(name: str, needed: int) -> None:
    """Weights beyond the machine's memory end the process before it can say why."""
    _, present = peak_memory()
    if needed > present:
        raise ModelError(
            f"[model] name = {name!r} needs {needed / 1e9:,.0f} GB for its weights alone, and this "
            f"machine has {present / 1e9:,.0f} GB of memory; choose a smaller model or a GPU"
        )


def _require_all_weights(name: str, missing: Collection[str]) -> None:
    """Transformers draws weights that a folder lacks at random, and only warns of it."""
    if missing:
        raise ModelError(
            f"[model] name = {name!r} lacks {len(missing)} of its weights, such as "
            f"{min(missing)!r}; copy all its .safetensors files, or save the model again"
        )


def resolve_device(device: str) -> str:
    """The device to compute on; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        ModelError: The named device is not on this machine.
    """
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if device == "auto":
        return "cuda" if available["cuda"] else "cpu"
    if not available.get(device, False):
        present = ", ".join(name for name, is_there in available.items() if is_there)
        raise ModelError(f"device = {device!r} is not on this machine (present: {present})")
    return device


def resolve_dtype(dtype: str, device: str) -> str:
    """Name of the weights' dtype; ``auto`` is bfloat16 on GPUs that compute in it, else float32."""
    if dtype != "auto":
        return dtype
    has_it = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if has_it else "float32"


def weights_sha256(folder: Path) -> str:
    """SHA-256 over all safetensors files of a folder, in name order.

    A result is remembered beside the files' sizes and times, since hashing gigabytes takes a while.
    """
    files = sorted(folder.glob("*.safetensors"))
    # the time of change, unlike that of writing, cannot come along with a folder from elsewhere
    stats = [(file.name, file.stat()) for file in files]
    stamp = [[name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] for name, stat in stats]
    memo = folder / ".sha256.json"
    known = _remembered(memo)
    if known.get("stamp") == stamp:
        return known["sha256"]
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            while block := handle.read(1 << 22):
                digest.update(block)
    if os.access(folder, os.W_OK):
        replace_json(memo, {"stamp": stamp, "sha256": digest.hexdigest()})
    return digest.hexdigest()


def _remembered(memo: Path) -> dict[str, Any]:
    """What a memo says; empty where there is none that can be read."""
    try:
        known = json.loads(memo.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def model_sha256(settings: ModelSettings) -> str:
    """SHA-256 over the weight files of the model a run names, as ``Backbone.sha256`` has it.

    Raises:
        ModelError: The model cannot be had.
    """
    return _identity(_locate(settings)[0], settings)


def model_texts_sha256(settings: ModelSettings) -> str:
    """SHA-256 over what lies beside the weights of the model a run names; see ``texts_sha256``.

    Raises:
        ModelError: The model cannot be had.
    """
    return texts_sha256(_locate(settings)[0])


def _identity(folder: Path, settings: ModelSettings) -> str:
    """The hash of the weights; another one where they are used in fewer bits."""
    whole = weights_sha256(folder)
    if settings.quantization == "none":
        return whole
    return hashlib.sha256(f"{whole}:{settings.quantization}".encode()).hexdigest()


def check_model(settings: ModelSettings) -> str:
    """Where the model would come from: local, packaged or hub; nothing is opened.

    Raises:
        ModelError: No model of that name can be had here.
    """
    return _source(settings)[1]


def _locate(settings: ModelSettings) -> tuple[Path, str]:
    place, source = _source(settings)
    if settings.name == toy.NAME and source == "packaged":
        toy.ensure_toy_model(Path(place))
    if source != "hub":
        return Path(place), source
    # Only a hub id needs the hub's client, and importing it is slow.
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    try:
        folder = snapshot_download(
            place,
            revision=settings.revision or None,
            allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"],
        )
    except Exception as error:  # the client raises many unrelated types
        raise ModelError(
            f"[model] name = {settings.name!r} is no local directory and no packaged model "
            f"({', '.join(_packaged())}), and the hub did not give it: {error}"
        ) from error
    return Path(folder), source


def _source(settings: ModelSettings) -> tuple[str, str]:
    folder = Path(settings.name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise ModelError(f"[model] name = {settings.name!r} is a directory without config.json")
        if not any(folder.glob("*.safetensors")):
            raise ModelError(
                f"[model] name = {settings.name!r} has no .safetensors file; "
                "convert the weights first, other formats can execute code when opened"
            )
        check_folder(folder, settings.name)
        return str(folder), "local"
    if settings.name in packaged_models():
        return str(packaged_model_path(settings.name)), "packaged"
    if settings.name == toy.NAME:  # made in code, so there is nothing to obtain
        return str(converted_model_folder(toy.FOLDER)), "packaged"
    if HUB_ID.fullmatch(settings.name):
        return settings.name, "hub"
    hint = did_you_mean(settings.name, _packaged())
    raise ModelError(
        f"[model] name = {settings.name!r} is no directory, no packaged model{hint} "
        f"(packaged: {', '.join(_packaged())}) and not of the form owner/name for the hub"
    )


def _packaged() -> list[str]:
    return sorted([*packaged_models(), toy.NAME])
