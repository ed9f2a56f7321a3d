"""Responses as text: what follows a prompt, whatever the tokenizer does to a first word."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from acft.prompt_tokens import response_text

WORDS = {"<s>": 0, "▁The": 1, "▁sun": 2, "▁rose": 3, "ny": 4}


@pytest.fixture(scope="module")
def word_pieces():
    """Writes spaces as a mark and drops the first one when it decodes, as SentencePiece does."""
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<s>")


@pytest.mark.parametrize(("response", "text"), [([3], " rose"), ([4], "ny"), ([], "")])
def test_a_response_keeps_the_space_before_its_first_word(word_pieces, response, text):
    assert word_pieces.decode([3]) == "rose"
    assert response_text(word_pieces, [0, 1, 2], response) == text


def test_where_prompt_and_response_melt_together_the_response_is_decoded_alone():
    class Melting:
        def decode(self, ids, skip_special_tokens):
            assert skip_special_tokens
            return {(1,): "a ", (1, 2): "a.", (2,): " ."}[tuple(ids)]

    assert response_text(Melting(), [1], [2]) == " ."
