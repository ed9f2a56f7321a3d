import os
import pickle
import sys
from collections import OrderedDict, defaultdict
from types import SimpleNamespace

import pytest

from acft.errors import ModelError
from acft.scorers.ports.keras_pickle import KerasTokenizer, read_tokenizer

TOKENIZER = KerasTokenizer({"good": 1, "morning": 2, "it's": 3}, filters="!,.\t\n")


class Tokenizer:
    """Pickled under the name of Keras' class."""

    def __init__(self, **changes):
        words = OrderedDict(good=1, morning=2, rare=3)
        self.__dict__.update(
            word_index=words, num_words=3, filters="!\n", lower=True, char_level=False,
            oov_token=None, split=" ", word_docs=defaultdict(int, good=2),
        )  # fmt: skip
        self.__dict__.update(changes)


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Pickles an object and returns the file; a ``Tokenizer`` goes by its Keras name."""
    text = SimpleNamespace(Tokenizer=Tokenizer)
    monkeypatch.setitem(sys.modules, "keras_preprocessing", SimpleNamespace(text=text))
    monkeypatch.setitem(sys.modules, "keras_preprocessing.text", text)
    monkeypatch.setattr(Tokenizer, "__module__", "keras_preprocessing.text")

    def write(item):
        file = tmp_path / "tokenizer.pickle"
        file.write_bytes(item if isinstance(item, bytes) else pickle.dumps(item))
        return file

    return write


def test_a_tokenizer_is_read_with_its_word_limit(save):
    tokenizer = read_tokenizer(save(Tokenizer()))
    assert tokenizer == KerasTokenizer({"good": 1, "morning": 2}, filters="!\n")


@pytest.mark.parametrize("setting", [{"lower": False}, {"char_level": True}, {"oov_token": "?"}])
def test_a_setting_that_would_be_computed_wrongly_is_refused(save, setting):
    with pytest.raises(ModelError, match="is not supported"):
        read_tokenizer(save(Tokenizer(**setting)))


class Attack:
    """Runs a command when a plain unpickler reads it."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "inside a tokenizer"])
@pytest.mark.parametrize("function", [os.system, eval, exec, getattr, __import__, open, print])
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(
    save, tmp_path, monkeypatch, function, wrapped
):
    monkeypatch.chdir(tmp_path)
    attack = Attack(function, "touch attacked")
    file = save(Tokenizer(word_index=attack) if wrapped else attack)
    with pytest.raises(ModelError, match="refers to"):
        read_tokenizer(file)
    assert not (tmp_path / "attacked").exists()


def test_a_state_that_is_no_dictionary_is_refused(save):
    content = pickle.dumps(Tokenizer(), protocol=2)
    start = content.index(b"}")  # where the state begins: an empty dictionary, filled and built
    file = save(content[:start] + b"]b.")
    with pytest.raises(ModelError, match="state is not a dictionary"):
        read_tokenizer(file)


def test_no_way_around_the_list_through_a_dotted_name(save):
    file = save(b"\x80\x04\x8c\x0bcollections\x8c\x15OrderedDict.__class__\x93.")
    with pytest.raises(ModelError, match=r"refers to collections\.OrderedDict\.__class__"):
        read_tokenizer(file)


@pytest.mark.parametrize(
    "content",
    [b"", b"no pickle", pickle.dumps([1, 2]), pickle.dumps(OrderedDict()), pickle.dumps(3)[:-1]],
    ids=["empty", "text", "a list", "no tokenizer", "cut off"],
)
def test_a_damaged_file_is_an_error_that_names_it(save, content):
    file = save(content)
    with pytest.raises(
        ModelError, match=r"tokenizer\.pickle' is not a Keras tokenizer.*make assets"
    ):
        read_tokenizer(file)


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ModelError, match=r"cannot read tokenizer .*nowhere"):
        read_tokenizer(tmp_path / "nowhere")


def test_words_become_indices_with_zeros_before_them():
    assert TOKENIZER.encode("Good MORNING, it's", 5) == [0, 0, 1, 2, 3]


def test_unknown_words_are_dropped_not_counted():
    assert TOKENIZER.encode("good unknown morning", 3) == [0, 1, 2]


def test_a_long_text_keeps_its_last_words():
    assert TOKENIZER.encode("good good morning it's", 2) == [2, 3]


def test_only_filters_and_blanks_separate_words():
    assert TOKENIZER.encode("good\tmorning good.morning good\rmorning", 5) == [0, 1, 2, 1, 2]
