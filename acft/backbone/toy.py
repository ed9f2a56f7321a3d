"""A tiny random language model that writes symbols, for worlds that can be enumerated.

It reads and writes texts such as ``a c b``. Every word that is no symbol is the start token, so all
prompts made of other words are one and the same world, in whichever split they are.
"""

import shutil
import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from acft.atomic import partial_folder
from acft.errors import DataError, ModelError

NAME = "toy"
"""What ``[model] name`` calls the packaged one."""
FOLDER = "toy-1"
"""Name of its folder; another one when its weights change, so that no old copy is used."""
START = "<start>"
START_ID = 0
SHARPNESS = 1.5
"""Standard deviation of the symbols' logits; 0 would be uniform."""
START_DIMENSION = 0
"""Hidden unit that is the same after every prefix and keeps the start token from being written."""
START_LEVEL, START_WEIGHT = 4.0, -20.0


def symbol_ids(n_symbols: int) -> list[int]:
    """Token ids of the symbols a, b, c and so on."""
    return list(range(START_ID + 1, START_ID + 1 + n_symbols))


def toy_model(
    n_symbols: int = 6,
    *,
    seed: int = 0,
    width: int = 32,
    layers: int = 2,
    context: int = 64,
    sharpness: float = SHARPNESS,
) -> LlamaForCausalLM:
    """A Llama with seeded random weights, on the CPU in float32, in evaluation mode."""
    config = LlamaConfig(
        vocab_size=START_ID + 1 + n_symbols,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=context,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=START_ID,
    )
    model = LlamaForCausalLM(config).float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _draw(name, parameter, generator, sharpness)
    return model


def toy_tokenizer(n_symbols: int = 6) -> PreTrainedTokenizerFast:
    """Symbols are lower-case letters between blanks; every other word is the start token."""
    vocabulary = {START: START_ID}
    letters = string.ascii_lowercase[:n_symbols]
    vocabulary |= dict(zip(letters, symbol_ids(n_symbols), strict=True))
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=START))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=START,
        pad_token=START,
        clean_up_tokenization_spaces=False,
    )


def save_toy_model(folder: Path, n_symbols: int = 6, *, seed: int = 0, **shape: int) -> Path:
    """A folder that opens as a local model: safetensors, configuration and tokenizer.

    Raises:
        ModelError: There are more symbols than letters, or fewer than two.
    """
    if not 2 <= n_symbols <= len(string.ascii_lowercase):
        raise ModelError(f"a toy model has 2 to 26 symbols, got {n_symbols}")
    toy_model(n_symbols, seed=seed, **shape).save_pretrained(folder)
    toy_tokenizer(n_symbols).save_pretrained(folder)
    return folder


def ensure_toy_model(folder: Path) -> Path:
    """The packaged toy model, written into ``folder`` if it is not there yet.

    Raises:
        DataError: The disk is full or the folder cannot be written.
    """
    if (folder / "config.json").exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with partial_folder(folder.parent) as temporary:
            made = save_toy_model(Path(temporary) / "toy")
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
    except OSError as error:
        if not (folder / "config.json").exists():  # else another process was faster
            raise DataError(
                f"cannot write the toy model to {str(folder)!r}: {error}; is the disk full?"
            ) from None
    return folder


def _draw(name: str, parameter: nn.Parameter, generator: torch.Generator, sharpness: float) -> None:
    if parameter.dim() == 1:  # scales of the norms
        parameter.fill_(1.0)
        return
    noise = torch.randn(parameter.shape, generator=generator)
    if "embed_tokens" in name:
        parameter.copy_(noise)
        parameter[:, START_DIMENSION] = START_LEVEL
    elif "lm_head" in name:
        parameter.copy_(noise * sharpness / parameter.shape[1] ** 0.5)
        parameter[:, START_DIMENSION] = 0.0
        parameter[START_ID] = 0.0
        parameter[START_ID, START_DIMENSION] = START_WEIGHT
    else:
        parameter.copy_(noise / parameter.shape[1] ** 0.5)
        if "o_proj" in name or "down_proj" in name:
            parameter[START_DIMENSION] = 0.0
