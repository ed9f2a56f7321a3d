"""Tokens of a response are known for certain, or it is refused."""

import pytest

from acft.engines.answers import Answer, Uncertain, answer_of, response_ids
from tests.fakes import END, PAD, pretrained_byte_tokenizer

HORIZON = 4
ENDS = (END, PAD)
"""Of a model that names another one than its tokenizer's."""


@pytest.fixture(scope="module")
def tokenizer():
    return pretrained_byte_tokenizer()


def ids_of(text, **changes):
    return tuple(text.encode()) + tuple(changes.get("after", ()))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer("abcd", False, n_tokens=4), ids_of("abcd")),
        (Answer("abc", True, n_tokens=4), (*ids_of("abc"), END)),
        (Answer("", True, n_tokens=1), (END,)),
        (Answer("abc", False, n_tokens=4), (*ids_of("abc"), END)),
        (Answer("a�", False, token_ids=(97, 98, 200, 201)), (97, 98, 200, 201)),
        (Answer("a", True, n_tokens=2, token_ids=(97, END)), (97, END)),
        (Answer("a", True, n_tokens=2, token_ids=(97, PAD)), (97, PAD)),
        (Answer("a", True, n_tokens=2, end_id=PAD), (97, PAD)),
    ],
)
def test_tokens_are_told_by_the_server_or_cut_from_its_text(tokenizer, answer, expected):
    assert response_ids(answer, tokenizer, ENDS, HORIZON) == expected


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer("ab�", False, n_tokens=3), "does not come back"),
        (Answer("abcd", False, n_tokens=3), "the server counts 3"),
        (Answer("abcd", False), "neither names nor counts"),
        (Answer("", False, n_tokens=0), "0 tokens"),
        (Answer("ab", True, token_ids=(97, 98)), "ends at another token"),
        (Answer("ab", False, token_ids=(97, END, 98, 99)), "goes on after its end"),
        (Answer("ab", False, token_ids=(97, PAD, 98, 99)), "goes on after its end"),
        (Answer("ab", True, n_tokens=3, end_id=98), "ends at another token"),
        (Answer("abcde", False, token_ids=(97, 98, 99, 100, 101)), "5 tokens"),
    ],
)
def test_a_response_whose_tokens_are_not_certain_is_refused(tokenizer, answer, why):
    with pytest.raises(Uncertain, match=why):
        response_ids(answer, tokenizer, ENDS, HORIZON)


@pytest.mark.parametrize("reply", ["text", [], {}, {"choices": []}, {"choices": [{}]}, None])
def test_a_reply_of_another_form_is_an_error(reply):
    with pytest.raises(ValueError, match="no completion"):
        answer_of(reply)


def test_log_probabilities_with_gaps_are_not_believed():
    reply = {"choices": [{"text": "a", "logprobs": {"token_logprobs": [None, -1.0]}}]}
    assert answer_of(reply).logprobs is None


@pytest.mark.parametrize(("told", "end_id"), [(98, 98), ("stop", None), (None, None)])
def test_the_token_that_ended_a_response_is_known_where_it_is_told(told, end_id):
    assert answer_of({"choices": [{"text": "a", "matched_stop": told}]}).end_id == end_id
