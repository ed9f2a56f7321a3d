"""Conversations as text: what a template refuses is said in a sentence."""

import pytest

from acft.chat import as_chat, response_end
from acft.errors import DataError, ModelError
from tests.fakes import END, PAD, ByteTokenizer, pretrained_byte_tokenizer

NO_SYSTEM = (
    "{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
QUESTION = ("user", "why?")


@pytest.fixture
def tokenizer():
    tokenizer = pretrained_byte_tokenizer()
    tokenizer.chat_template = NO_SYSTEM
    return tokenizer


def test_messages_are_wrapped_up_to_the_response(tokenizer):
    assert as_chat([QUESTION], tokenizer) == "<user>why?\n<assistant>"


def test_a_conversation_that_the_template_refuses_is_told_with_its_roles(tokenizer):
    with pytest.raises(DataError, match=r"roles system, user: no system role; change"):
        as_chat([("system", "be kind"), QUESTION], tokenizer)


def test_a_template_that_is_none_is_told_with_its_place(tokenizer):
    tokenizer.chat_template = "{% for m in messages %}"
    with pytest.raises(DataError, match="chat template does not take"):
        as_chat([QUESTION], tokenizer)


def test_a_tokenizer_without_template_is_told_with_the_model():
    with pytest.raises(ModelError, match="of 'tiny' has none; set it to false"):
        as_chat([QUESTION], ByteTokenizer(has_chat=False), "tiny")


@pytest.mark.parametrize(
    ("behind", "end_ids", "expected"),
    [
        ("<pad>\n", (END, PAD), [PAD]),
        (" <pad><end>", (END, PAD), [PAD]),
        ("<pad>\n", (END,), [END]),  # drawing would not stop at it
        ("\n", (END, PAD), [END]),
        ("{{ raise_exception('no answer') }}", (END, PAD), [END]),
    ],
)
def test_a_response_ends_as_the_template_ends_it_where_drawing_stops(
    tokenizer, behind, end_ids, expected
):
    answer = "{% if m['role'] == 'assistant' %}" + behind + "{% endif %}"
    tokenizer.chat_template = NO_SYSTEM.replace("\n{% endfor %}", answer + "{% endfor %}")
    assert response_end(tokenizer, end_ids) == expected


def test_without_an_end_of_text_nothing_ends_a_response():
    assert response_end(ByteTokenizer(has_end=False), ()) == []
