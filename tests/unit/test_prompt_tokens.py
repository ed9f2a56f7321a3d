"""Responses as text: what follows a prompt, whatever the tokenizer does to a first word."""

from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from acft.oracle.verdicts import prefix_verdicts
from acft.prompt_tokens import encoded_pair, response_text, response_texts
from tests.fakes import ByteTokenizer, byte_fallback_tokenizer, word_piece_tokenizer

LETTERS = {"<unk>": 0, "▁": 1, "a": 2, "n": 3, "\n": 4, "▁a": 5, "an": 6}


@pytest.fixture(scope="module", params=["Metaspace", "Prepend"])
def spacing(request):
    """Puts a mark for a space before whatever it encodes, as SentencePiece does."""
    merges = [("▁", "a"), ("a", "n")]
    tokenizer = Tokenizer(models.BPE(vocab=LETTERS, merges=merges, unk_token="<unk>"))
    if request.param == "Metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    else:
        steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        tokenizer.normalizer = normalizers.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.mark.parametrize(("response", "ids"), [(" a", [5]), ("n a", [3, 5]), ("", [])])
def test_a_response_gets_no_space_that_it_does_not_have(spacing, response, ids):
    assert spacing.encode("n a") == [1, 3, 5]
    assert spacing.encode("n") == [1, 3]
    assert encoded_pair(spacing, "a", response) == ([5], ids)


def test_a_response_in_a_chat_gets_no_space_that_it_does_not_have(spacing):
    assert encoded_pair(spacing, "a\n", "na", is_chat=True) == ([5, 4], [3, 2])


def test_a_space_before_words_is_noticed_where_it_is_a_token_of_its_own():
    letters = {letter: i for i, letter in enumerate(("<unk>", "▁", "a", "n", "\n"))}
    tokenizer = Tokenizer(models.BPE(vocab=letters, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    spacing = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    assert encoded_pair(spacing, "a", "n") == ([1, 2], [3])


def test_where_a_response_would_change_the_prompts_tokens_they_are_encoded_apart(spacing):
    assert encoded_pair(spacing, "na", "n") == ([1, 3, 2], [1, 3])


@pytest.fixture(scope="module")
def word_pieces():
    return word_piece_tokenizer()


def decoder_of(tokenizer):
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize(("response", "text"), [([3], " rose"), ([4], "ny"), ([], "")])
def test_a_response_keeps_the_space_before_its_first_word(word_pieces, response, text):
    assert word_pieces.decode([3]) == "rose"
    assert response_text(decoder_of(word_pieces), [0, 1, 2], response) == text


def test_where_prompt_and_response_melt_together_the_response_is_decoded_alone():
    texts = {(1,): "a ", (1, 2): "a.", (2,): " ."}
    assert response_text(lambda ids: texts[tuple(ids)], [1], [2]) == " ."


def test_where_a_letter_is_cut_the_response_is_decoded_alone():
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode("ten \N{EURO SIGN}")
    responses = [ids[-2:-1], ids[-2:]]
    alone = [tokenizer.decode(response) for response in responses]
    assert response_texts(tokenizer.decode, ids[:-2], responses) == alone


def test_a_cut_letter_takes_no_other_letters_along():
    tokenizer: Any = byte_fallback_tokenizer()
    ids = tokenizer.encode("a 😀€")
    assert tokenizer.decode(ids[:-1]) == "a " + "\ufffd" * 6
    assert response_text(tokenizer.decode, ids[:2], ids[2:-1]) == " 😀\ufffd"
    assert response_text(tokenizer.decode, ids[:2], ids[2:]) == " 😀€"


def test_every_prefix_is_judged_as_it_follows_its_prompt(word_pieces):
    judged = []

    def verdicts(prompts, responses):
        judged.append((prompts, responses))
        return [1.0] * len(responses)

    prefix_verdicts(decoder_of(word_pieces), ["The"], [[0, 1]], [[2, 4, 3]], verdicts, 4)
    assert judged == [(["The"] * 4, ["", " sun", " sunny", " sunny rose"])]
