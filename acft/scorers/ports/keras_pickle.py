"""Reads the tokenizer out of a Keras pickle without running anything the pickle names."""

import pickle
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from acft.errors import ModelError


@dataclass(frozen=True)
class KerasTokenizer:
    """Words to integers as ``keras.preprocessing.text.Tokenizer`` does it."""

    word_index: dict[str, int]
    """Index of every known word, from 1; 0 is padding. Unknown words are dropped."""
    filters: str
    """Characters that become blanks."""

    def encode(self, text: str, length: int) -> list[int]:
        """Exactly ``length`` indices: the text's last words, zeros before them."""
        blanks = str.maketrans(dict.fromkeys(self.filters, " "))
        # only the blank separates, as in Keras: other white space stays inside a word
        words = text.lower().translate(blanks).split(" ")
        indices = [self.word_index[word] for word in words if word in self.word_index]
        kept = indices[-length:]
        return [0] * (length - len(kept)) + kept


_DAMAGE = (
    pickle.UnpicklingError, ArithmeticError, AttributeError, EOFError, LookupError, MemoryError,
    RecursionError, TypeError, ValueError,
)  # fmt: skip
"""What unpickling a damaged or hostile file can raise."""


class _Attributes:
    """Stands in for a class of the pickle: holds attributes, has no code."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("an object's state is not a dictionary")
        self.__dict__.update(state)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("builtins", "int"): int,
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
    ("keras.src.legacy.preprocessing.text", "Tokenizer"): _Attributes,
    ("keras_preprocessing.text", "Tokenizer"): _Attributes,
    ("tox_block.data_processing.preprocessors", "TokenSequencer"): _Attributes,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """The stand-in for an allowed name; everything else is refused."""
        if (module_name, global_name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it refers to {module_name}.{global_name}")
        return _ALLOWED[module_name, global_name]


def read_tokenizer(path: Path) -> KerasTokenizer:
    """The tokenizer of a Keras pickle; the pickle can name containers only, no code.

    Raises:
        ModelError: The file is missing, is no pickle, names anything else or holds no tokenizer.
    """
    try:
        with path.open("rb") as file:
            state = _tokenizer_state(file)
        return _from_state(state)
    except OSError as error:
        raise ModelError(f"cannot read tokenizer {str(path)!r}: {error}") from None
    except _DAMAGE as error:
        raise ModelError(
            f"tokenizer {str(path)!r} is not a Keras tokenizer: {error}; run 'make assets'"
        ) from None


def _tokenizer_state(file: BinaryIO) -> dict[str, Any]:
    outer = vars(_Unpickler(file).load())
    return vars(outer["tokenizer"]) if "tokenizer" in outer else outer


def _from_state(state: dict[str, Any]) -> KerasTokenizer:
    plain = (state["lower"], state["char_level"], state["oov_token"], state["split"])
    if plain != (True, False, None, " "):
        raise ValueError(f"(lower, char_level, oov_token, split) = {plain!r} is not supported")
    limit = int(state["num_words"])
    word_index = {
        str(word): int(index) for word, index in state["word_index"].items() if index < limit
    }
    return KerasTokenizer(word_index, str(state["filters"]))
