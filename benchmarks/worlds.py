"""What the speed measurements run on: random models of known shapes, or an experiment's own.

Speed and memory do not depend on what the weights are, so random ones of a model's shape measure
what the model would, on any machine and without downloads.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from acft.backbone.attention import group_heads
from acft.backbone.loading import Backbone, resolve_device, resolve_dtype
from acft.backbone.products import lay_out_by_input, use_wide_vectors
from acft.backbone.sharded import is_divided, is_sharded, shard
from acft.constraints import build_constraint
from acft.data import TokenizedDocument
from acft.distributed import ranks
from acft.policy import Policy, trainable_policy
from acft.runs.spec import load_spec
from acft.scoring import ScorerPool
from acft.seeding import derive_seed
from acft.settings import RunSettings
from acft.threads import Workers
from acft.training.outputs import TrainContext
from acft.training.world import World, load_world
from acft.types import Prompt
from benchmarks.toy_worlds import drained

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "vocab_size": 300, "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4,
    },
    "smollm2-135m": {
        "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
        "tie_word_embeddings": True,
    },
    "llama-1b": {
        "vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
        "tie_word_embeddings": True,
    },
    "llama-7b": {
        "vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 11_008,
        "num_hidden_layers": 32, "num_attention_heads": 32,
    },
}  # fmt: skip
"""Models by the shape of their weights."""

PROMPT_TOKENS, RESPONSE_TOKENS, TEXT_TOKENS = (6, 24), 20, 64
"""Lengths of a prompt, of a continuation the model wrote and of a general text; as quickstart."""


def random_backbone(
    shape: str, device: str = "auto", dtype: str = "auto", sharding: str = "none"
) -> Backbone:
    """A Llama of the given shape with seeded random weights, and a tokenizer of numbered words."""
    ranks()  # which gives each of several processes a GPU of its own
    device = resolve_device(device)
    if device == "cpu":
        use_wide_vectors()
    config = LlamaConfig(
        **SHAPES[shape], max_position_embeddings=4096, bos_token_id=None, eos_token_id=None,
        pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, resolve_dtype(dtype, device)))
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    model.set_attn_implementation("eager" if device == "cpu" else "sdpa")
    if device == "cpu":
        group_heads(model)
    if is_divided(sharding):
        shard(model, device)
    elif device == "cpu":
        lay_out_by_input(model)
    model.eval().requires_grad_(requires_grad=False)
    return Backbone(model, word_tokenizer(config.vocab_size), shape, "local", f"random-{shape}")


def word_tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """Token i is the word ``wi``."""
    words = {f"w{index}": index for index in range(vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0", pad_token="w0")


def random_world(
    shape: str, device: str = "auto", n_documents: int = 256, tokens: int = 0, **changes: Any
) -> World:
    """A world of random texts around a random model; ``changes`` are tables of settings."""
    values: dict[str, Any] = {
        "device": device,
        "model": {"name": shape},
        "constraint": [{"kind": "pattern", "pattern": r"\bw\d*7\b", "must": "not_occur"}],
        "oracle": {"strength": 1.0},
        "evaluation": {"scorers": [], "validation_prompts": 8, "test_prompts": 0},
    }
    run = RunSettings.parse(values | changes)
    backbone = random_backbone(shape, run.device, run.dtype, run.model.sharding)
    vocab = SHAPES[shape]["vocab_size"]
    # one thread feeds a GPU, and one at a time agrees with other processes; see base_policy
    is_divided = backbone.model.device.type != "cpu" or is_sharded(backbone.model)
    base = Policy(backbone, workers=Workers(1 if is_divided else torch.get_num_threads()))
    return World(
        run,
        base,
        trainable_policy(
            base,
            run.adapter,
            derive_seed(run.seed, "adapter"),
            run.optimizer,
        ),
        build_constraint(run.constraint, ScorerPool("cpu")),
        [],
        [],
        {"train": prompts(vocab, 128, "train"), "validation": prompts(vocab, 32, "validation")},
        [
            (2.0, documents(vocab, n_documents, "attribute", tokens)),
            (1.0, documents(vocab, n_documents, "general", tokens)),
        ],
        threads=torch.get_num_threads(),
    )


def experiment_world(path: Path, overrides: list[str]) -> World:
    """The world of a settings file, with its real model, texts and constraint."""
    ranks()  # as above
    return drained(load_world(TrainContext(load_spec(path, overrides).settings)))


def prompts(vocab: int, n: int, split: Any) -> list[Prompt]:
    """Random prompts of 6 to 24 words."""
    return [
        Prompt(f"{split}-{number}", " ".join(f"w{i}" for i in ids), split)
        for number, ids in enumerate(_sequences(vocab, n, split))
    ]


def documents(vocab: int, n: int, domain: str, tokens: int = 0) -> list[TokenizedDocument]:
    """Random prompts with a continuation (``attribute``) or a longer text (``general``).

    Args:
        tokens: Length of every document, at least; that of quickstart's if 0.
    """
    length = RESPONSE_TOKENS if domain == "attribute" else TEXT_TOKENS - PROMPT_TOKENS[1]
    length = max(length, tokens - PROMPT_TOKENS[0])
    generator = torch.Generator().manual_seed(derive_seed(0, domain))
    result = []
    for number, ids in enumerate(_sequences(vocab, n, domain)):
        response = torch.randint(1, vocab, (length,), generator=generator).tolist()
        result.append(TokenizedDocument(f"{domain}-{number}", domain, (*ids, *response), len(ids)))
    return result


def _sequences(vocab: int, n: int, purpose: str) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(derive_seed(0, "lengths", purpose))
    shortest, longest = PROMPT_TOKENS
    lengths = torch.randint(shortest, longest + 1, (n,), generator=generator).tolist()
    return [
        tuple(torch.randint(1, vocab, (length,), generator=generator).tolist())
        for length in lengths
    ]


def synchronize(device: str) -> None:
    """Wait until a GPU has finished what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
