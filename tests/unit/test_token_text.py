"""Texts of single tokens: with their spaces, whole letters at once, and the whole text together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acft.token_text import TokenTexts, token_texts
from tests.fakes import (
    byte_fallback_tokenizer,
    pretrained_byte_tokenizer,
    word_piece_tokenizer,
)


@pytest.fixture(scope="module")
def word_pieces():
    return word_piece_tokenizer()


@pytest.fixture(scope="module")
def fallback():
    return byte_fallback_tokenizer()


@pytest.fixture(scope="module")
def single_bytes():
    """Every byte is a token."""
    return pretrained_byte_tokenizer()


def test_a_word_keeps_the_space_before_it(word_pieces):
    assert token_texts(word_pieces.decode, [1, 2, 4, 3]) == ["The", " sun", "ny", " rose"]
    texts = TokenTexts(word_pieces.decode)
    texts.add(1)
    assert texts.peek([2, 3, 4]) == [" sun", " rose", "ny"]
    assert texts.add(3) == " rose"


def test_a_letter_of_several_tokens_is_told_with_its_last_one(single_bytes):
    ids = single_bytes.encode("aé€😀b")
    assert token_texts(single_bytes.decode, ids) == [
        "a", "", "é", "", "", "€", "", "", "", "😀", "b",
    ]  # fmt: skip


def test_a_letter_that_never_ends_is_told_as_it_is(single_bytes):
    assert token_texts(single_bytes.decode, single_bytes.encode("a😀")[:-1]) == [
        "a", "", "", "\ufffd",
    ]  # fmt: skip
    texts = TokenTexts(single_bytes.decode)
    euro = single_bytes.encode("€")
    texts.add(euro[0])
    assert texts.peek(euro[1:2]) == ["\ufffd"]
    assert texts.add(euro[1]) == ""
    assert texts.peek(euro[2:]) == ["€"]


def test_a_word_keeps_its_space_behind_a_special_token(word_pieces):
    def plain(ids):
        return word_pieces.decode(ids, skip_special_tokens=True)

    assert token_texts(plain, [0, 1, 0, 0, 2]) == ["", "The", "", "", " sun"]
    assert plain([0, 1, 0, 0, 2]) == "The sun"


@given(text=st.text(alphabet="ab \n\té你שלe\u0301😀\u200d👩🏽", min_size=1, max_size=20))
def test_letters_spelled_in_bytes_make_up_the_whole(fallback, text):
    ids = fallback.encode(text)
    assert "".join(token_texts(fallback.decode, ids)) == fallback.decode(ids) == text


@given(text=st.text(max_size=40))
def test_the_texts_of_all_tokens_make_up_the_whole(single_bytes, text):
    ids = single_bytes.encode(text)
    assert "".join(token_texts(single_bytes.decode, ids)) == single_bytes.decode(ids) == text


@given(ids=st.lists(st.sampled_from(range(256)), max_size=30))
def test_bytes_that_spell_nothing_are_never_lost_for_long(single_bytes, ids):
    texts = token_texts(single_bytes.decode, ids)
    assert len(texts) == len(ids)
    assert all(any(texts[start : start + 4]) for start in range(len(texts) - 3))
    assert not ids or texts[-1]
