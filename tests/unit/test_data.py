import dataclasses
import functools
import json
import math
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acft.data import (
    TokenizedDocument,
    Tokenizer,
    balanced_batches,
    collate,
    documents_from_rollouts,
    fingerprint,
    load_documents,
    load_prompts,
    micro_batches,
    mixture,
    pad_token,
    prompt_of,
    split_of,
    tokenize,
)
from acft.errors import DataError, ModelError
from acft.inference.preview import preview
from acft.settings import CorpusSettings, PromptSettings
from acft.types import Document, Rollout
from tests.fakes import END, PAD, ByteTokenizer, pretrained_byte_tokenizer

LINES = [f"line number {i} of a small set of texts" for i in range(400)]
TOKENIZER = ByteTokenizer()


def inline(lines):
    return "inline:" + "\n".join(lines)


def prompts(lines=LINES, limit=0, seed=0):
    return load_prompts(PromptSettings(source=inline(lines), limit=limit), seed)


def documents(lines=LINES, max_documents=0, seed=0):
    corpus = CorpusSettings(source=inline(lines), max_documents=max_documents)
    return load_documents(corpus, seed)


def document(response, prompt="", **fields):
    return Document("d1", prompt, response, "general", **fields)


def tokens(length, response_start=2, name="d"):
    return TokenizedDocument(name, "general", tuple(range(length)), response_start)


def corpus_of(letter, size):
    return [tokens(4, name=f"{letter}{i}") for i in range(size)]


def names(batches):
    return [[item.document_id for item in batch] for batch in batches]


# prompts


def test_prompts_are_distinct_and_named_by_their_text():
    first, *others = prompts(["hello", " hello ", "hello"])
    assert not others
    assert (first.prompt_id, first.text) == ("p2cf24dba5fb0", "hello")


def test_a_prompt_keeps_its_split_whatever_else_is_in_the_set():
    alone = {prompt.text: prompt.split for line in LINES[:20] for prompt in prompts([line])}
    together = {prompt.text: prompt.split for prompt in prompts()}
    assert alone.items() <= together.items()


def test_splits_share_no_prompt_and_have_about_their_shares():
    counts = Counter(prompt.split for prompt in prompts())
    assert sum(counts.values()) == len(LINES)
    assert counts["train"] == pytest.approx(240, abs=40)
    assert counts["validation"] == pytest.approx(60, abs=30)


def test_the_limit_holds_for_each_split_and_a_larger_one_adds_only():
    few, more = prompts(limit=5), prompts(limit=9)
    assert Counter(prompt.split for prompt in few) == {"train": 5, "validation": 5, "test": 5}
    assert set(few) < set(more)


def test_the_choice_of_prompts_depends_on_the_seed_and_on_nothing_else():
    assert prompts(limit=5) == prompts(list(reversed(LINES)), limit=5)
    assert prompts(limit=5) != prompts(limit=5, seed=1)


def test_the_first_prompts_of_a_split_are_not_those_of_the_first_category():
    in_order = [prompt.text for prompt in prompts() if prompt.split == "train"]
    assert in_order != sorted(in_order, key=LINES.index)


@pytest.mark.parametrize("load", [prompts, documents])
def test_an_empty_source_is_an_error(load):
    with pytest.raises(DataError, match="name another"):
        load([])


# documents


def test_documents_are_split_by_their_text_so_held_out_text_is_never_trained_on():
    by_split = documents()
    for split, members in by_split.items():
        assert {split_of(item.response_text) for item in members} == {split}
    assert sum(map(len, by_split.values())) == len(LINES)


def test_a_prompt_is_on_the_same_side_whether_it_is_drawn_from_or_trained_on(tmp_path):
    rows = [{"question": f" {line}", "text": f"{line} {n}"} for line in LINES for n in range(3)]
    file = tmp_path / "answers.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    by_split = load_documents(CorpusSettings(source=str(file), prompt_field="question"), 0)
    for split, members in by_split.items():
        assert {prompt_of(item.prompt_text.strip()).split for item in members} == {split}


def test_repeated_documents_count_once():
    assert sum(map(len, documents(LINES + LINES).values())) == len(LINES)


def test_the_number_of_documents_is_limited_over_all_splits():
    some, more = documents(max_documents=20), documents(max_documents=50)
    assert sum(map(len, some.values())) == 20
    assert all(set(some[split]) <= set(more[split]) for split in some)


def test_a_corpus_with_prompts_keeps_them_apart_from_the_text(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "why?", "text": "because"}\n{"question": "", "text": " so "}')
    by_split = load_documents(CorpusSettings(source=str(path), prompt_field="question"), 0)
    found = {(item.prompt_text, item.response_text) for part in by_split.values() for item in part}
    assert found == {("why?", "because"), ("", "so")}


def test_the_fingerprint_tells_texts_and_their_order():
    train = documents()["train"]
    assert fingerprint(train) == fingerprint(documents()["train"])
    others = [train[1:], train[::-1], documents(seed=1)["train"], prompts()]
    assert fingerprint(train) not in [fingerprint(other) for other in others]
    said = [Document("d", "p", "r", "general", ((role, "p"),)) for role in ("user", "system")]
    assert fingerprint(said[:1]) != fingerprint(said[1:])


# tokens


def test_a_document_without_a_prompt_gets_its_first_8_to_24_tokens():
    made = tokenize((item for item in documents()["train"]), TOKENIZER, 64, seed=0).documents
    lengths = {item.response_start for item in made}
    assert lengths <= set(range(8, 25))
    assert len(lengths) > 10


def test_the_cut_depends_on_the_seed_and_the_document_only():
    members = documents()["train"]
    starts = [item.response_start for item in tokenize(members, TOKENIZER, 64, 0).documents]
    again = [item.response_start for item in tokenize(members[5:], TOKENIZER, 64, 0).documents]
    assert starts[5:] == again
    assert starts != [item.response_start for item in tokenize(members, TOKENIZER, 64, 1).documents]


@pytest.mark.parametrize("length", [9, 10, 24])
def test_a_short_document_keeps_one_token_of_response_at_least(length):
    (made,) = tokenize([document("x" * length)], TOKENIZER, 64, 0).documents
    assert 8 <= made.response_start < len(made.token_ids) == length


def test_documents_without_room_for_prompt_and_response_are_dropped_and_counted():
    members = [document("a long enough text"), document("short"), document("no", prompt="p" * 40)]
    corpus = tokenize(members, TOKENIZER, 40, 0)
    assert (len(corpus.documents), corpus.n_dropped, corpus.n_cut) == (1, 2, 0)


def test_long_documents_are_cut_and_counted():
    corpus = tokenize([document("x" * 100), document("y" * 64)], TOKENIZER, 64, 0)
    assert [len(item.token_ids) for item in corpus.documents] == [64, 64]
    assert corpus.n_cut == 1


def test_nothing_left_is_an_error_with_the_way_out():
    with pytest.raises(DataError, match=r"none of 1 documents .* choose .* longer texts, or"):
        tokenize([document("short")], TOKENIZER, 64, 0)


@pytest.mark.parametrize(
    ("prompt", "response", "text"),
    [("why?", "so", "why? so"), ("why? ", "so", "why? so"), ("why?", "\nso", "why?\nso")],
)
def test_prompt_and_response_are_joined_by_one_space_where_there_is_none(prompt, response, text):
    (made,) = tokenize([document(response, prompt)], TOKENIZER, 64, 0).documents
    assert TOKENIZER.decode(made.token_ids) == text
    assert made.response_start == len(prompt)


def test_a_chat_template_wraps_the_prompt_and_ends_the_response():
    (made,) = tokenize([document("hi", "hello")], TOKENIZER, 64, 0, chat_template=True).documents
    prompt, response = (
        made.token_ids[: made.response_start],
        made.token_ids[made.response_start :],
    )
    assert TOKENIZER.decode(prompt) == "<user>hello\n<assistant>"
    assert response == (*b"hi", END)


def test_a_response_is_taught_to_end_where_drawing_ends_it():
    real: Any = pretrained_byte_tokenizer()
    real.chat_template = "{% for m in messages %}{{ m['content'] }}<pad>{% endfor %}"
    members = [document("hi", "hello")]
    (made,) = tokenize(members, real, 64, 0, chat_template=True, end_ids=(PAD, END)).documents
    assert made.token_ids[made.response_start :] == (*b"hi", PAD)


def test_a_conversation_keeps_its_turns_in_the_chat_template():
    turns = (("system", "be kind"), ("user", "hello"))
    member = document("hi", "be kind\nhello", turns=turns)
    (made,) = tokenize([member], TOKENIZER, 64, 0, chat_template=True).documents
    assert TOKENIZER.decode(made.token_ids).startswith(
        "<system>be kind\n<user>hello\n<assistant>hi"
    )


def test_text_without_a_prompt_is_no_chat():
    (made,) = tokenize([document("x" * 30)], TOKENIZER, 64, 0, chat_template=True).documents
    assert bytes(made.token_ids) == b"x" * 30


def test_a_tokenizer_without_chat_template_is_an_error():
    with pytest.raises(ModelError, match="set it to false"):
        tokenize(
            [document("hi", "hello")], ByteTokenizer(has_chat=False), 64, 0, chat_template=True
        )


def test_a_tokenizer_of_transformers_gives_the_same_documents():
    real = pretrained_byte_tokenizer()
    members = [*documents()["train"][:20], document("hi", "hello, wörld")]
    for is_chat in (False, True):
        theirs = tokenize(members, real, 64, 0, chat_template=is_chat)  # pyright: ignore[reportArgumentType]
        assert theirs == tokenize(members, TOKENIZER, 64, 0, chat_template=is_chat)


def test_both_tokenizers_are_what_this_module_needs():
    assert isinstance(TOKENIZER, Tokenizer)
    assert isinstance(pretrained_byte_tokenizer(), Tokenizer)


def test_rollouts_become_documents_with_exactly_the_drawn_tokens():
    drawn = Rollout("r1", "p1", "ab", "c", (97, 98), (99, END), (-1.0, -0.5), 0)
    empty = dataclasses.replace(drawn, rollout_id="r2", response_ids=(), response_logprobs=())
    assert documents_from_rollouts([drawn, empty], "attribute") == [
        TokenizedDocument("r1", "attribute", (97, 98, 99, END), 2)
    ]


# batches


def test_a_batch_is_padded_at_the_right_and_masks_say_what_is_real():
    batch = collate([tokens(5), tokens(3)], PAD, horizon=2)
    assert batch.token_ids.tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, PAD, PAD]]
    assert batch.attention_mask.int().tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch.response_mask.int().tolist() == [[0, 0, 1, 1, 0], [0, 0, 1, 0, 0]]


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=5),
    st.integers(1, 12),
)
def test_the_response_mask_counts_response_tokens_up_to_the_horizon(shapes, horizon):
    members = [tokens(start + response, start) for start, response in shapes]
    batch = collate(members, PAD, horizon)
    assert batch.attention_mask.sum(1).tolist() == [len(item.token_ids) for item in members]
    assert batch.response_mask.sum(1).tolist() == [min(r, horizon) for _, r in shapes]
    assert not (batch.response_mask & ~batch.attention_mask).any()
    first = [int(row.nonzero()[0]) for row in batch.response_mask]
    assert first == [start for start, _ in shapes]


def test_padding_falls_back_to_end_of_text_and_then_to_any_token():
    assert pad_token(TOKENIZER) == PAD
    assert pad_token(ByteTokenizer(has_pad=False)) == END
    assert pad_token(ByteTokenizer(has_pad=False, has_end=False)) == 0


def test_the_padding_id_changes_no_mask():
    with_pad, with_end = (collate([tokens(5), tokens(3)], i, 2) for i in (PAD, END))
    assert torch.equal(with_pad.attention_mask, with_end.attention_mask)
    assert torch.equal(with_pad.response_mask, with_end.response_mask)


def test_balanced_batches_hold_every_document_once_and_end_together():
    lengths = [7, 64, 40, 38, 64, 30, 41, 35, 64, 28, 33, 64]
    documents = [tokens(length, name=str(i)) for i, length in enumerate(lengths)]
    batches = balanced_batches(documents, 6)
    padded = [len(batch) * max(len(d.token_ids) for d in batch) for batch in batches]
    assert sorted(d.document_id for batch in batches for d in batch) == sorted(
        d.document_id for d in documents
    )
    assert padded == [7 * 40, 5 * 64]
    assert balanced_batches([], 6) == []


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=30), size=st.integers(1, 8))
def test_no_other_cut_of_as_many_batches_needs_fewer_padded_tokens_at_once(lengths, size):
    documents = [tokens(length, name=str(i)) for i, length in enumerate(lengths)]
    batches = balanced_batches(documents, size)
    widest = max(len(batch) * len(batch[-1].token_ids) for batch in batches)
    wanted = math.ceil(len(lengths) / size)
    assert len(batches) <= wanted
    by_length = sorted(lengths)

    @functools.cache
    def best(end: int, n: int) -> float:
        if end == 0:
            return 0
        if n == 0:
            return math.inf
        return min(
            max(best(start, n - 1), (end - start) * by_length[end - 1]) for start in range(end)
        )

    assert widest == best(len(by_length), wanted)


def test_micro_batches_are_consecutive_and_complete():
    assert list(micro_batches([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4], [5]]


# mixtures

SIZES = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 7)), min_size=1, max_size=4)


def pairs(sizes):
    return [(float(w), corpus_of("abcd"[i], size)) for i, (w, size) in enumerate(sizes)]


@given(SIZES, st.integers(0, 12), st.integers(1, 6), st.integers(0, 3), st.integers(0, 12))
def test_a_mixture_restarted_at_any_step_gives_the_same_batches(sizes, steps, batch, seed, start):
    whole = names(mixture(pairs(sizes), steps, batch, seed))
    assert len(whole) == steps
    assert names(mixture(pairs(sizes), steps, batch, seed, start=start)) == whole[start:]


@given(SIZES, st.integers(1, 12), st.integers(1, 6))
def test_no_corpus_is_more_than_one_document_above_its_share(sizes, steps, batch):
    total = sum(weight for weight, _ in sizes)
    drawn = [name for step in names(mixture(pairs(sizes), steps, batch, 0)) for name in step]
    for i, (weight, _) in enumerate(sizes):
        count = sum(name.startswith("abcd"[i]) for name in drawn)
        assert count < len(drawn) * weight / total + 1
        assert count > len(drawn) * weight / total - len(sizes)


@given(SIZES, st.integers(1, 30))
def test_every_document_is_seen_equally_often(sizes, steps):
    drawn = Counter(n for step in names(mixture(pairs(sizes), steps, 3, 0)) for n in step)
    for i, (_, size) in enumerate(sizes):
        counts = [drawn[f"{'abcd'[i]}{k}"] for k in range(size)]
        assert max(counts) - min(counts) <= 1


def test_equal_weights_give_half_of_each_corpus_in_every_batch():
    corpora = [(1.0, corpus_of("a", 30)), (1.0, corpus_of("b", 7))]
    for batch in names(mixture(corpora, 20, 8, 0)):
        assert Counter(name[0] for name in batch) == {"a": 4, "b": 4}


def test_epochs_and_seeds_have_their_own_order():
    first, second = names(mixture([(1.0, corpus_of("a", 20))], 2, 20, 0))
    assert first != second
    assert sorted(first) == sorted(second)
    assert first != names(mixture([(1.0, corpus_of("a", 20))], 1, 20, 1))[0]


def test_an_empty_corpus_in_a_mixture_is_named():
    with pytest.raises(DataError, match=r"\[corpus.1\] has no training documents"):
        next(mixture([(1.0, corpus_of("a", 2)), (1.0, [])], 1, 2, 0))


# preview


def test_the_preview_shows_what_the_loss_sees():
    member = document("bcd", "a ")
    made = tokenize([member, member], TOKENIZER, 64, 0).documents
    (shown,) = preview(made, TOKENIZER, horizon=2, n=1)
    assert [(token.text, token.in_ce, token.in_kl) for token in shown] == [
        ("a", False, False),
        (" ", True, False),
        ("b", True, True),
        ("c", True, True),
        ("d", True, False),
    ]


def test_the_preview_of_nothing_is_empty():
    assert preview([], TOKENIZER, 20, 5) == []


def test_a_prompt_that_is_given_carries_no_loss():
    made = tokenize([document("bcd", "a ")], TOKENIZER, 64, 0, loss="response").documents
    (shown,) = preview(made, TOKENIZER, horizon=2, n=1)
    assert "".join(token.text for token in shown if token.in_ce) == "bcd"
    assert made[0].n_loss_tokens == 3


def test_the_same_holds_of_texts_the_base_policy_wrote():
    drawn = Rollout("r1", "p1", "ab", "c", (97, 98), (99, END), (-1.0, -0.5), 0)
    (made,) = documents_from_rollouts([drawn], "attribute", "response")
    assert (made.loss_start, made.n_loss_tokens) == (2, 2)
