"""Small stand-ins for a tokenizer and a language model; no files, no weights, no network."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

END, PAD, N_TOKENS = 256, 257, 258
"""Ids above the bytes, and the vocabulary's size."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


class ByteTokenizer:
    """One token for each byte of UTF-8, one for end of text and one for padding."""

    def __init__(self, *, has_pad=True, has_end=True, has_chat=True):
        self.pad_token_id = PAD if has_pad else None
        self.eos_token_id = END if has_end else None
        self.chat_template = CHAT_TEMPLATE if has_chat else None

    def __len__(self):
        return N_TOKENS

    def encode(self, text, *, add_special_tokens=True):
        return list(text.encode())

    def decode(self, token_ids, *, skip_special_tokens=False):
        special = {END: "<end>", PAD: "<pad>"}
        parts = [
            special[i].encode() if i in special and not skip_special_tokens else bytes([i])
            for i in token_ids
            if i < END or not skip_special_tokens
        ]
        return b"".join(parts).decode(errors="replace")

    def apply_chat_template(self, conversation, *, tokenize=False, add_generation_prompt=False):
        text = "".join(f"<{turn['role']}>{turn['content']}\n" for turn in conversation)
        text += "<assistant>" if add_generation_prompt else ""
        return self.encode(text) if tokenize else text


def byte_backbone(context_length=128):
    """What reading texts takes of an opened model with the tokenizer of bytes."""
    from torch import nn

    tokenizer = ByteTokenizer()
    return SimpleNamespace(
        model=nn.Identity(),
        tokenizer=tokenizer,
        decode=partial(tokenizer.decode, skip_special_tokens=True),
        context_length=context_length,
    )


def word_piece_tokenizer():
    """Five words, spaces written as a mark; drops the first one when it decodes (SentencePiece)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<s>": 0, "▁The": 1, "▁sun": 2, "▁rose": 3, "ny": 4}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<s>")


def byte_fallback_tokenizer():
    """Two words with their spaces; all other letters are spelled in bytes (SentencePiece)."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    names = ["<unk>", "<end>", "▁", "a", "b", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {name: i for i, name in enumerate(names)}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True)
    )
    first = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence(first)
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        eos_token="<end>",
        chat_template=CHAT_TEMPLATE,
    )


def pretrained_byte_tokenizer():
    """The same vocabulary as a tokenizer of transformers, for what needs a real one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    symbols = _byte_symbols()
    tokenizer = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(symbols)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<end>",
        pad_token="<pad>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def tiny_llama(vocab_size=N_TOKENS, *, width=32, layers=2, heads=2, groups=0, context=128, seed=0):
    """A Llama with random weights, on the CPU in float32, in evaluation mode.

    Its logits are large enough that next tokens differ clearly in probability.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups or heads,
        max_position_embeddings=context,
        initializer_range=0.3,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=END if vocab_size > END else None,
        pad_token_id=PAD if vocab_size > PAD else None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).float().eval()


def save_tiny_model(folder, **shape) -> Path:
    """A folder that opens as a local model: safetensors, configuration and tokenizer."""
    tiny_llama(**shape).save_pretrained(folder)
    pretrained_byte_tokenizer().save_pretrained(folder)
    return Path(folder)


def _byte_symbols():
    """The printable character that byte-level tokenizers use for each byte, in byte order."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
