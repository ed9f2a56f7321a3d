"""Prompts and documents of a run: splits, tokens, mixtures and batches."""

import hashlib
import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, pairwise
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch

from acft.chat import as_chat, response_end
from acft.corpora.base import Record
from acft.corpora.sources import corpus_records, prompt_records
from acft.errors import DataError
from acft.prompt_tokens import encoded_pair
from acft.seeding import derive_seed, hash_fraction
from acft.settings import CorpusSettings, PromptSettings
from acft.types import Document, LossTokens, Prompt, Rollout, Split, TokenBatch

TRAIN_SHARE, VALIDATION_SHARE = 0.60, 0.15
"""Shares of the splits; the rest is the test split."""

PROMPT_TOKENS = (8, 24)
"""Shortest and longest prompt cut from a document that has none, in tokens."""

T = TypeVar("T")


@runtime_checkable
class Tokenizer(Protocol):
    """What this module needs of a tokenizer; those of transformers have it."""

    chat_template: Any
    eos_token_id: Any
    pad_token_id: Any

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text."""
        ...

    def decode(self, token_ids: list[int]) -> Any:
        """Text of token ids."""
        ...

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> Any:
        """The conversation as the model was taught to read it."""
        ...


@dataclass(frozen=True)
class TokenizedDocument:
    """A document as token ids."""

    document_id: str
    domain: str
    token_ids: tuple[int, ...]
    response_start: int
    """Number of prompt tokens, which is the index of the first response token."""
    loss_start: int = 1
    """Index of the first token whose log-probability is part of the cross-entropy."""
    is_rollout: bool = False
    """Drawn from a policy of this run, under ``document_id`` as its rollout's id."""

    @classmethod
    def of(cls, rollout: Rollout, domain: str, loss: LossTokens = "all") -> "TokenizedDocument":
        """A rollout as a document, with exactly the tokens that were drawn."""
        start = len(rollout.prompt_ids)
        token_ids = rollout.prompt_ids + rollout.response_ids
        return cls(rollout.rollout_id, domain, token_ids, start, start if loss == "response" else 1)

    @property
    def n_loss_tokens(self) -> int:
        """Tokens that carry the cross-entropy."""
        return len(self.token_ids) - self.loss_start


@dataclass(frozen=True)
class TokenizedCorpus:
    """Documents that can be trained on, and how many cannot."""

    documents: list[TokenizedDocument]
    n_dropped: int
    """Too short to have a prompt and a response, or with a prompt that leaves no room for one."""
    n_cut: int
    """Longer than the limit, their end is missing."""


def split_of(text: str) -> Split:
    """The split a text belongs to, now and in every other run."""
    fraction = hash_fraction(text)
    if fraction < TRAIN_SHARE:
        return "train"
    return "validation" if fraction < TRAIN_SHARE + VALIDATION_SHARE else "test"


def prompt_of(text: str, category: str = "") -> Prompt:
    """The prompt made of a text; its name and split depend on the text alone."""
    return Prompt(_id("p", text), text, split_of(text), category)


def load_prompts(settings: PromptSettings, seed: int) -> list[Prompt]:
    """Distinct prompts of all splits, at most ``limit`` of each.

    They come in a seeded order, so the first k of a split are a fair choice of k, and a larger
    limit keeps all prompts of a smaller one.

    Raises:
        DataError: The source is unknown, missing, malformed or empty.
        ModelError: It comes with a package that has not been obtained.
    """
    prompts: dict[str, Prompt] = {}
    for record in prompt_records(settings):
        prompt = prompt_of(record.text.strip(), record.category)
        prompts.setdefault(prompt.prompt_id, prompt)
    if not prompts:
        raise DataError(f"[prompts] source = {settings.source!r} has no prompts; name another")
    splits = _by_split(_shuffled(prompts, seed), lambda prompt: prompt.split)
    return [p for split in splits.values() for p in split[: settings.limit or None]]


def load_documents(settings: CorpusSettings, seed: int) -> dict[Split, list[Document]]:
    """Distinct documents of a corpus by split, at most ``max_documents`` over all splits.

    They come in a seeded order, as prompts do. A document with a prompt has the prompt's split.

    Raises:
        DataError: The source is unknown, missing, malformed, empty or written by the policy.
        ModelError: It comes with a package that has not been obtained.
    """
    documents: dict[str, Document] = {}
    for record in corpus_records(settings):
        document = _document(record, settings.domain)
        documents.setdefault(document.document_id, document)
    if not documents:
        raise DataError(f"[corpus] source = {settings.source!r} has no texts; name another")
    chosen = _shuffled(documents, seed)[: settings.max_documents or None]
    return _by_split(chosen, lambda item: split_of(item.prompt_text.strip() or item.response_text))


def fingerprint(items: Iterable[Prompt | Document]) -> str:
    """SHA-256 over the texts in their order, in hexadecimal: what a run really read."""
    digest = hashlib.sha256()
    for item in items:
        if isinstance(item, Prompt):
            digest.update(item.prompt_id.encode())
        else:  # whose name tells its texts, not who said them
            digest.update(item.document_id.encode())
            digest.update(repr(item.turns).encode())
    return digest.hexdigest()


def tokenize(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    max_tokens: int,
    seed: int,
    *,
    chat_template: bool = False,
    loss: LossTokens = "all",
    end_ids: Collection[int] = (),
    source: str = "",
) -> TokenizedCorpus:
    """Documents as token ids, each with a prompt and at least one token of response.

    A document without a prompt gets its first 8 to 24 tokens as prompt, a seeded choice. Prompt
    and response are tokenised apart, joined by a space where neither has one, and start as the
    prompts of rollouts do. With ``chat_template`` a prompt becomes the conversation before the
    response, and the response ends as the template ends it; see ``chat.response_end``.

    Raises:
        DataError: No document is left, or a template takes no such conversation; says why.
        ModelError: The tokenizer has no chat template.
    """
    kept: list[TokenizedDocument] = []
    n_dropped = n_cut = 0
    end = response_end(tokenizer, end_ids) if chat_template else []
    for document in documents:
        prompt, response = prompt_and_response(
            document, tokenizer, chat_template=chat_template, end=end
        )
        item = _tokenized(document, prompt, response, max_tokens, seed, loss)
        if item is None:
            n_dropped += 1
        else:
            kept.append(item)
            n_cut += len(prompt) + len(response) > max_tokens
    if not kept:
        raise DataError(
            f"none of {n_dropped} documents{source and f' of {source!r}'} can be used: each needs "
            f"a prompt ({PROMPT_TOKENS[0]} tokens if cut from the text) and one more token within "
            f"[optimizer] max_tokens = {max_tokens}; choose a corpus with longer texts, or raise it"
        )
    return TokenizedCorpus(kept, n_dropped, n_cut)


def documents_from_rollouts(
    rollouts: Iterable[Rollout], domain: str, loss: LossTokens = "all"
) -> list[TokenizedDocument]:
    """Rollouts as documents; those without a response are left out."""
    return [TokenizedDocument.of(r, domain, loss) for r in rollouts if r.response_ids]


def pad_token(tokenizer: Tokenizer) -> int:
    """The id that fills batches up, always masked: padding, else end of text, else any token."""
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next((int(token_id) for token_id in ids if token_id is not None), 0)


def collate(documents: Sequence[TokenizedDocument], pad_id: int, horizon: int) -> TokenBatch:
    """Documents padded at the right to the longest.

    Args:
        documents: At least one.
        pad_id: Fills up; see ``pad_token``.
        horizon: ``response_mask`` selects at most this many response tokens, the positions at which
            the oracle is defined.
    """
    lengths = torch.tensor([len(document.token_ids) for document in documents])
    starts = torch.tensor([document.response_start for document in documents])
    positions = torch.arange(int(lengths.max()))
    token_ids = torch.full((len(documents), len(positions)), pad_id)
    for row, document in zip(token_ids, documents, strict=True):
        row[: len(document.token_ids)] = torch.tensor(document.token_ids)
    attention_mask = positions < lengths[:, None]
    in_horizon = (positions >= starts[:, None]) & (positions < starts[:, None] + horizon)
    return TokenBatch(token_ids, attention_mask, attention_mask & in_horizon)


def micro_batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive pieces of ``size`` items; the last may be shorter."""
    return (items[start : start + size] for start in range(0, len(items), size))


def even_parts(items: Sequence[T], count: int) -> list[Sequence[T]]:
    """Consecutive parts of sizes that differ by one at most, ``count`` of them; none is empty."""
    ends = [len(items) * number // count for number in range(count + 1)] if items else []
    return [items[start:end] for start, end in pairwise(ends) if start < end]


def balanced_batches(
    documents: Sequence[TokenizedDocument], size: int
) -> list[Sequence[TokenizedDocument]]:
    """Documents by length, in as many batches as ``micro_batches`` makes or fewer.

    No batch needs more padded tokens than it must, so that batches worked on at once end together.
    """
    by_length = sorted(documents, key=lambda document: len(document.token_ids))
    wanted = math.ceil(len(by_length) / size)
    longest = len(by_length[-1].token_ids) if by_length else 0
    capacities = range(longest, size * longest + 1)
    enough = bisect_left(capacities, -wanted, key=lambda each: -len(_within(by_length, each)))
    return _within(by_length, capacities[enough]) if by_length else []


def _within(
    by_length: Sequence[TokenizedDocument], capacity: int
) -> list[Sequence[TokenizedDocument]]:
    """The fewest consecutive batches of at most ``capacity`` padded tokens."""
    starts = [0]
    for index, document in enumerate(by_length):
        if (index + 1 - starts[-1]) * len(document.token_ids) > capacity:
            starts.append(index)
    return [by_length[start:end] for start, end in pairwise([*starts, len(by_length)])]


def endless_passes(size: int, seed: int) -> Iterator[int]:
    """Places 0 to ``size`` - 1 in one seeded permutation after the other."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(size, generator=generator).tolist()


def mixture(
    corpora: Sequence[tuple[float, Sequence[TokenizedDocument]]],
    n_steps: int,
    batch_size: int,
    seed: int,
    start: int = 0,
) -> Iterator[list[TokenizedDocument]]:
    """Batches of steps ``start`` to ``n_steps`` - 1, the same whichever step one starts from.

    Args:
        corpora: (weight, documents) pairs. After any number of documents a corpus has given at
            most one more than its share by weight.
        n_steps: Steps of the whole run.
        batch_size: Documents in a step.
        seed: Each corpus is passed through in seeded permutations, one after the other.
        start: Finished steps of a run that is resumed.

    Raises:
        DataError: A corpus is empty.
    """
    for index, (_, documents) in enumerate(corpora):
        if not documents:
            raise DataError(f"[corpus.{index}] has no training documents; add texts or remove it")
    turns = _turns([weight for weight, _ in corpora])
    for step in range(n_steps):
        places = [next(turns) for _ in range(batch_size)]
        if step >= start:
            yield [_pick(corpora[index][1], index, number, seed) for index, number in places]


def _id(letter: str, text: str) -> str:
    return letter + hashlib.sha256(text.encode()).hexdigest()[:12]


def _document(record: Record, domain: str) -> Document:
    has_prompt = bool(record.prompt.strip() or record.turns)
    text = record.text if has_prompt else record.text.strip()
    document_id = _id("d", f"{record.prompt}\x1f{text}" if has_prompt else text)
    return Document(document_id, record.prompt if has_prompt else "", text, domain, record.turns)


def _shuffled(by_id: Mapping[str, T], seed: int) -> list[T]:
    # by hash, not by position: a text keeps its place when others are added
    order = sorted(by_id, key=lambda name: derive_seed(seed, "choose", name))
    return [by_id[name] for name in order]


def _by_split(items: Iterable[T], split: Callable[[T], Split]) -> dict[Split, list[T]]:
    splits: dict[Split, list[T]] = {"train": [], "validation": [], "test": []}
    for item in items:
        splits[split(item)].append(item)
    return splits


def prompt_and_response(
    document: Document, tokenizer: Tokenizer, *, chat_template: bool, end: Sequence[int] = ()
) -> tuple[list[int], list[int]]:
    """Token ids of both parts as training reads them; no prompt where the text has none.

    ``end`` follows the response in a conversation.

    Raises:
        DataError: The chat template does not take the conversation.
        ModelError: The tokenizer has no chat template.
    """
    prompt, response = document.prompt_text, document.response_text
    if not prompt and not document.turns:
        return [], tokenizer.encode(response, add_special_tokens=True)
    if chat_template:
        turns = document.turns or (("user", prompt),)
        ids, answer = encoded_pair(tokenizer, as_chat(turns, tokenizer), response, is_chat=True)
        return ids, [*answer, *end]
    joint = "" if prompt[-1:].isspace() or response[:1].isspace() else " "
    return encoded_pair(tokenizer, prompt, joint + response)


def _tokenized(
    document: Document,
    prompt: list[int],
    response: list[int],
    max_tokens: int,
    seed: int,
    loss: LossTokens,
) -> TokenizedDocument | None:
    token_ids = tuple((prompt + response)[:max_tokens])
    start = len(prompt) or _prompt_length(document.document_id, len(token_ids), seed)
    if not 0 < start < len(token_ids):
        return None
    loss_start = start if loss == "response" else 1
    return TokenizedDocument(document.document_id, document.domain, token_ids, start, loss_start)


def _prompt_length(document_id: str, n_tokens: int, seed: int) -> int:
    shortest, longest = PROMPT_TOKENS
    generator = np.random.default_rng(derive_seed(seed, "prompt_length", document_id))
    drawn = int(generator.integers(shortest, longest, endpoint=True))
    length = min(drawn, n_tokens - 1)
    return length if length >= shortest else 0


def _turns(weights: Sequence[float]) -> Iterator[tuple[int, int]]:
    """Endless (corpus, how many it has given before), always the one furthest below its share."""
    shares = [weight / sum(weights) for weight in weights]
    given = [0] * len(weights)
    for n in count(1):
        owed = [n * share - had for share, had in zip(shares, given, strict=True)]
        index = owed.index(max(owed))
        yield index, given[index]
        given[index] += 1


def _pick(
    documents: Sequence[TokenizedDocument], corpus: int, number: int, seed: int
) -> TokenizedDocument:
    epoch, position = divmod(number, len(documents))
    return documents[_permutation(seed, corpus, epoch, len(documents))[position]]


@lru_cache(maxsize=32)
def _permutation(seed: int, corpus: int, epoch: int, size: int) -> list[int]:
    generator = np.random.default_rng(derive_seed(seed, "mixture", corpus, epoch))
    return generator.permutation(size).tolist()
