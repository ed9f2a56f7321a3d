"""Documents token by token, with what the loss sees of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from acft.data import TokenizedDocument, Tokenizer, collate, pad_token
from acft.token_text import token_texts


@dataclass(frozen=True)
class PreviewToken:
    """A token as the loss sees it."""

    text: str
    in_ce: bool
    """Its log-probability is part of the cross-entropy."""
    in_kl: bool
    """The distribution it was drawn from is pulled towards the guided policy."""


def preview(
    documents: Sequence[TokenizedDocument], tokenizer: Tokenizer, horizon: int, n: int
) -> list[list[PreviewToken]]:
    """The tokens of the first ``n`` documents with what the loss mask selects of them."""
    shown = documents[:n]
    if not shown:
        return []
    masks = collate(shown, pad_token(tokenizer), horizon).response_mask
    return [
        [
            # Nothing predicts a first token.
            PreviewToken(text, i >= document.loss_start, i > 0 and bool(mask[i]))
            for i, text in enumerate(
                token_texts(lambda ids: str(tokenizer.decode(list(ids))), document.token_ids)
            )
        ]
        for document, mask in zip(shown, masks, strict=True)
    ]
