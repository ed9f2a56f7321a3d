"""The constraint asked about unfinished responses: on every prefix, and on every token alone.

A black-box constraint can be evaluated on any text. Its verdict on the prefix tells the oracle what
is already decided, which leaves only the future to be learned.
"""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from acft.atomic import replace_bytes
from acft.oracle.base import Verdicts
from acft.prompt_tokens import Decode, response_texts


def prefix_verdicts(
    decode: Decode,
    prompts: Sequence[str],
    prompt_ids: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    verdicts: Verdicts,
    length: int,
) -> Float[Tensor, "batch window"]:
    """Graded satisfaction of each prefix, from the empty one to the whole response.

    Past the end of a response its last value is repeated.
    """
    texts, owners = [], []
    for prompt, ids, response in zip(prompts, prompt_ids, responses, strict=True):
        beginnings = (response[:end] for end in range(len(response) + 1))
        texts += response_texts(decode, ids, beginnings)
        owners += [prompt] * (len(response) + 1)
    values = iter(verdicts(owners, texts))
    rows = []
    for response in responses:
        row = [next(values) for _ in range(len(response) + 1)]
        rows.append(row + [row[-1]] * (length - len(row)))
    return torch.tensor(rows, dtype=torch.float32)


def token_verdicts(
    decode: Decode,
    vocab: int,
    verdicts: Verdicts,
    cache: Path | None = None,
    identity: str = "",
) -> Float[Tensor, " vocab"]:
    """Graded satisfaction of each vocabulary token taken as a whole response.

    Args:
        cache: Folder that remembers the result.
        identity: Everything the result depends on: constraint, scorer hashes, tokenizer.
    """
    file = None
    if cache is not None:
        name = hashlib.sha256(f"{identity}\x1f{vocab}".encode()).hexdigest()[:32]
        file = cache / f"{name}.npy"
        known = _remembered(file)
        if known is not None:
            return torch.from_numpy(known)
    texts = [decode([token]) for token in range(vocab)]
    values = np.asarray(verdicts([""] * vocab, texts), dtype=np.float32)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        np.save(content, values)
        replace_bytes(file, content.getvalue())
    return torch.from_numpy(values)


def _remembered(file: Path) -> np.ndarray | None:
    """The stored values; None where there are none that can be read."""
    try:
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
