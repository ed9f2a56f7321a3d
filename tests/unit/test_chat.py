"""Conversations as text: what a template refuses is said in a sentence."""

import pytest

from acft.chat import DAY, as_chat, response_end
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


@pytest.mark.parametrize(
    "template", ["{{ messages[0]['content'] + 1 }}", "{{ 1 / 0 }}", "{{ range(10 ** 9) | list }}"]
)
def test_a_template_that_breaks_while_it_writes_is_told_with_its_place(tokenizer, template):
    tokenizer.chat_template = template
    with pytest.raises(DataError, match="chat template does not take"):
        as_chat([QUESTION], tokenizer)


def test_several_templates_without_a_default_are_told(tokenizer):
    tokenizer.chat_template = {"rag": NO_SYSTEM, "tool_use": NO_SYSTEM}
    with pytest.raises(DataError, match="no default"):
        as_chat([QUESTION], tokenizer)


def test_a_template_that_leaves_the_question_out_is_told(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'].text }}{% endfor %}<assistant>"
    )
    with pytest.raises(
        DataError, match=r"leaves out the text of the last message, by 'user' .* 'why"
    ):
        as_chat([QUESTION], tokenizer)


@pytest.mark.parametrize("form", ["%d %b %Y", "%A, %B %-d, %Y %H:%M:%S"])
def test_a_template_that_names_the_date_gives_the_same_prompt_on_every_day(tokenizer, form):
    today = "{{ strftime_now('" + form + "') if strftime_now is defined }}"
    tokenizer.chat_template = "\n" + today + "\n" + NO_SYSTEM
    said = DAY.strftime(form)
    assert as_chat([QUESTION], tokenizer) == f"\n{said}\n<user>why?\n<assistant>"


def test_one_of_several_templates_may_name_the_date(tokenizer):
    tokenizer.chat_template = {"default": "{{ strftime_now('%Y') }}" + NO_SYSTEM, "rag": "none"}
    assert as_chat([QUESTION], tokenizer) == f"{DAY.year}<user>why?\n<assistant>"


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
