"""What each token of a text adds to it.

A token decoded by itself may lack the space that it stands for, and several tokens may spell one
letter together.
"""

from collections.abc import Sequence

from acft.prompt_tokens import INCOMPLETE, LETTER_TOKENS, Decode, response_texts


class TokenTexts:
    """Reads a text token by token; what the tokens add makes up the decoded whole."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._told: list[int] = []
        """The last tokens whose text was told; what follows is decoded after them."""
        self._waiting: list[int] = []
        """Tokens that spell no whole letter yet."""

    def peek(self, tokens: Sequence[int]) -> list[str]:
        """What each of some tokens would add if it came next."""
        return response_texts(
            self._decode, self._told, [[*self._waiting, token] for token in tokens]
        )

    def add(self, token: int, *, is_last: bool = False) -> str:
        """What the next token adds; empty where it is a part of a letter that later ones complete.

        Args:
            token: The token.
            is_last: Whether nothing follows, so that a part of a letter is told as it is.
        """
        [text] = self.peek([token])
        self._waiting.append(token)
        is_part = text.endswith(INCOMPLETE) and len(self._waiting) < LETTER_TOKENS
        if is_part and not is_last:
            return ""
        # special tokens may have no text of their own, and a first word no space
        self._told, self._waiting = [*([] if text else self._told), *self._waiting], []
        return text


def token_texts(decode: Decode, token_ids: Sequence[int]) -> list[str]:
    """What each token adds, in order."""
    texts = TokenTexts(decode)
    last = len(token_ids) - 1
    return [texts.add(token, is_last=index == last) for index, token in enumerate(token_ids)]
