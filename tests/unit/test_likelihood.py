import math
from types import SimpleNamespace

import pytest
import torch

from acft.benchmarks.perplexity import PerplexitySettings
from acft.errors import DataError
from acft.likelihood import (
    Likelihood,
    byte_totals,
    continuation_likelihoods,
    document_likelihoods,
    left_out_totals,
    mean_perplexity_totals,
    perplexity_totals,
)
from acft.threads import Workers
from acft.totals import ratio_bootstrap, ratio_change
from acft.types import Document, Rollout, TokenBatch
from tests.bench import UniformJudge
from tests.fakes import N_TOKENS, byte_backbone, byte_fallback_tokenizer, tiny_llama


class LlamaJudge:
    """A tiny language model with random weights."""

    device = "cpu"
    workers = Workers()

    def __init__(self) -> None:
        self.model = tiny_llama()
        self.backbone = byte_backbone()
        self.context_length = self.backbone.context_length

    @torch.no_grad()
    def token_logprobs(self, batch: TokenBatch) -> torch.Tensor:
        logits = self.model(batch.token_ids, attention_mask=batch.attention_mask.long()).logits
        logprobs = logits[:, :-1].log_softmax(-1)
        chosen = logprobs.gather(-1, batch.token_ids[:, 1:, None])[..., 0]
        return chosen * batch.attention_mask[:, 1:]


def document(text: str, name: str = "d") -> Document:
    return Document(name, "", text, "general")


def rollout(prompt: str, response: str, name: str = "r") -> Rollout:
    return Rollout(name, f"p-{prompt}", prompt, response, (), (), (), 0)


def test_an_answer_to_a_message_is_read_in_the_judges_own_template() -> None:
    judge = UniformJudge(4)
    continuation_likelihoods(judge, [rollout("Who?", "A friend.")], are_answers=True)
    judge.backbone.tokenizer.chat_template = None
    continuation_likelihoods(judge, [rollout("Who?", "A friend.")], are_answers=True)
    continuation_likelihoods(judge, [rollout("Who", "le.")])
    read = [judge.backbone.decode(batch.token_ids[0].tolist()) for batch in judge.batches]
    assert read == ["<user>Who?\n<assistant>A friend.", "Who? A friend.", "Whole."]


def perplexity(judge: UniformJudge, documents: list[Document]) -> float | None:
    return perplexity_totals(document_likelihoods(judge, documents)).value


TEXTS = ["the sun rose", "a much longer text about rain", "wind", "x"]


@pytest.mark.parametrize("n", [4, 50, N_TOKENS])
def test_perplexity_of_a_uniform_model_over_n_tokens_is_n(n) -> None:
    documents = [document(text, str(i)) for i, text in enumerate(TEXTS)]
    assert perplexity(UniformJudge(n), documents) == pytest.approx(n, rel=1e-6)


def test_a_run_cuts_texts_where_the_suite_does_so_that_their_numbers_are_of_the_same_tokens() -> (
    None
):
    (row,) = document_likelihoods(UniformJudge(4, context_length=2000), [document("word " * 300)])
    assert row.n_tokens == PerplexitySettings().max_tokens - 1


def test_perplexity_of_nothing_is_no_number() -> None:
    assert perplexity(UniformJudge(4), []) is None


def test_a_text_of_one_token_has_nothing_to_judge() -> None:
    assert document_likelihoods(UniformJudge(4), [document("x")]) == []


def test_bits_per_byte_of_a_uniform_byte_model_is_its_entropy() -> None:
    rows = document_likelihoods(UniformJudge(16), [document("some plain text")])
    assert byte_totals(rows).value == pytest.approx(4)


@pytest.mark.parametrize("cut", range(4, 12))
def test_bytes_are_those_of_the_text_wherever_it_is_cut(cut) -> None:
    text = "a \N{SNOWMAN}\N{GRINNING FACE} end"
    (row,) = document_likelihoods(UniformJudge(4), [document(text)], max_tokens=cut)
    whole = text.encode()[:cut].decode(errors="ignore")
    assert row.n_bytes == row.n_tokens == len(whole.encode()) - 1


def test_letters_spelled_in_bytes_are_all_counted_where_a_text_is_cut_within_one() -> None:
    judge = UniformJudge(4)
    tokenizer = byte_fallback_tokenizer()
    judge.backbone = SimpleNamespace(
        model=judge.backbone.model, tokenizer=tokenizer, decode=tokenizer.decode
    )
    (row,) = document_likelihoods(judge, [document("a 日本語")], max_tokens=10)
    assert (row.n_tokens, row.n_bytes) == (8, len("a 日本".encode()))


def test_likelihoods_equal_those_of_one_text_at_a_time() -> None:
    judge = LlamaJudge()
    documents = [document(text, str(i)) for i, text in enumerate(TEXTS)]
    together = document_likelihoods(judge, documents)
    alone = [row for d in documents for row in document_likelihoods(judge, [d])]
    assert [row.text_id for row in together] == ["0", "1", "2"]
    for a, b in zip(together, alone, strict=True):
        assert (a.text_id, a.n_tokens) == (b.text_id, b.n_tokens)
        assert a.nll == pytest.approx(b.nll, rel=1e-5)


def test_a_continuation_costs_what_the_whole_costs_more_than_the_prompt() -> None:
    judge = LlamaJudge()
    (response,) = continuation_likelihoods(judge, [rollout("the sun", " rose late")])
    whole, prompt = document_likelihoods(
        judge, [document("the sun rose late"), document("the sun")]
    )
    assert response.nll == pytest.approx(whole.nll - prompt.nll, rel=1e-5)
    assert response.n_tokens == len(" rose late")
    assert response.group == "p-the sun"


def test_empty_responses_are_left_out() -> None:
    assert continuation_likelihoods(UniformJudge(4), [rollout("the sun", "")]) == []


def test_without_a_prompt_the_first_response_token_is_given() -> None:
    (row,) = continuation_likelihoods(UniformJudge(4), [rollout("", "abc")])
    assert row.n_tokens == 2


def test_a_prompt_longer_than_the_context_keeps_its_end() -> None:
    judge = UniformJudge(4, context_length=8)
    (row,) = continuation_likelihoods(judge, [rollout("0123456789", "abc")])
    assert row.n_tokens == 3
    assert bytes(judge.batches[0].token_ids[0].tolist()) == b"56789abc"


def test_a_response_longer_than_the_context_is_an_error_that_says_so() -> None:
    with pytest.raises(DataError, match="context is 4"):
        continuation_likelihoods(UniformJudge(4, context_length=4), [rollout("a", "abcdef")])


def test_a_batch_holds_no_more_tokens_than_asked_for(monkeypatch) -> None:
    monkeypatch.setattr("acft.likelihood.BATCH_TOKENS_CPU", 30)
    judge = UniformJudge(4)
    documents = [document(text, str(i)) for i, text in enumerate(TEXTS)]
    document_likelihoods(judge, documents)
    assert all(batch.token_ids.numel() <= 30 for batch in judge.batches)


def test_corpus_perplexity_and_mean_of_perplexities_are_different_numbers() -> None:
    # nats per token 1 over 3 tokens, 3 over 1 token: exp(6 / 4) against (e + e^3) / 2
    rows = [Likelihood("a", "a", 3.0, 3, 3), Likelihood("b", "b", 3.0, 1, 1)]
    assert perplexity_totals(rows).value == pytest.approx(math.exp(1.5))
    assert mean_perplexity_totals(rows).value == pytest.approx((math.e + math.e**3) / 2)


def test_mean_of_perplexities_leaves_out_those_above_ten_thousand() -> None:
    rows = [Likelihood("a", "a", 1.0, 1, 1), Likelihood("b", "b", 1000.0, 1, 1)]
    found = mean_perplexity_totals(rows)
    assert found.value == pytest.approx(math.e)
    assert found.n == 1


def test_the_share_left_out_of_the_mean_counts_high_perplexities_and_texts_without_one() -> None:
    rows = [Likelihood("a", "p", 1.0, 1, 1), Likelihood("b", "p", 1000.0, 1, 1)]
    found = left_out_totals(rows, {"a": "p", "b": "p", "empty": "q"})
    assert found.groups == ("p", "q")
    assert (found.sums.tolist(), found.counts.tolist()) == ([1, 1], [2, 1])


def test_change_of_perplexity_compares_the_perplexities_themselves() -> None:
    base = [Likelihood(name, name, 2.0, 1, 1) for name in "abcd"]
    tuned = [Likelihood(name, name, 2.0 + math.log(1.03), 1, 1) for name in "abcd"]
    totals = [perplexity_totals(base), perplexity_totals(tuned)]
    assert ratio_bootstrap(totals, ratio_change).value == pytest.approx(0.03)


def test_a_document_is_judged_as_it_is_trained_on() -> None:
    judge = LlamaJudge()
    pair = Document("d", "Hello", "world", "general")
    (apart,) = document_likelihoods(judge, [pair])
    (joined,) = document_likelihoods(judge, [document("Hello world")])
    assert (apart.n_tokens, apart.nll) == (joined.n_tokens, pytest.approx(joined.nll))
