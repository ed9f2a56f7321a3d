"""How likely texts are under a language model: nats, perplexities, bits per byte.

Two averages are kept apart and named so: ``perplexity`` is exp(all nats / all tokens) of a corpus;
``mean_perplexity`` is the mean of the perplexities of single texts, which a few odd texts dominate.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from acft.backbone.sharded import uneven_passes
from acft.data import TokenizedDocument, collate, pad_token, prompt_and_response
from acft.distributed import ranks
from acft.errors import DataError
from acft.prompt_tokens import INCOMPLETE, LETTER_TOKENS, encoded_pair, response_text
from acft.threads import Workers
from acft.totals import Totals
from acft.types import Document, Rollout, TokenBatch

MAX_TOKENS = 256
"""Longer documents are cut, in a run's own report as in suites."""
BATCH_TOKENS = 1024
"""Tokens in one forward pass, padding included, unless a single text has more."""
BATCH_TOKENS_CPU = 256
"""Same on CPU, where more are read no faster and leave the other worker with nothing to do."""
DROPPED_PERPLEXITY = 1e4
"""Texts above it are left out of ``mean_perplexity``. Source: arXiv:2105.03023, its evaluation."""


@runtime_checkable
class Judge(Protocol):
    """A language model that says how likely texts are; every policy is one."""

    @property
    def backbone(self) -> Any:
        """The opened model; ``model``, tokenizer and ``decode`` are used."""
        ...

    @property
    def context_length(self) -> int:
        """Longest text in tokens that it reads."""
        ...

    @property
    def device(self) -> str:
        """Where its weights are."""
        ...

    @property
    def workers(self) -> Workers:
        """Threads that do its forward passes."""
        ...

    def token_logprobs(self, batch: TokenBatch) -> Float[Tensor, "batch step"]:
        """Log-probability of each realised token after the first, in nats; 0 on padding."""
        ...


@dataclass(frozen=True)
class Likelihood:
    """How likely one text is."""

    text_id: str
    group: str
    """What is resampled together: the prompt of a continuation, or the document itself."""
    nll: float
    """Nats over the judged tokens."""
    n_tokens: int
    n_bytes: int
    """UTF-8 bytes of the judged tokens."""

    @property
    def nll_per_token(self) -> float:
        """Nats per token."""
        return self.nll / self.n_tokens


@dataclass(frozen=True)
class _Item:
    """A text as tokens, of which the first ``given`` are not judged."""

    text_id: str
    group: str
    token_ids: list[int]
    given: int


def document_likelihoods(
    judge: Judge, documents: Sequence[Document], max_tokens: int = MAX_TOKENS
) -> list[Likelihood]:
    """Likelihood of each document's first ``max_tokens`` tokens; one-token documents are left out.

    The first token is given, since nothing precedes it. Conversations count as plain text.
    """
    tokenizer = judge.backbone.tokenizer
    length = min(max_tokens, judge.context_length)
    items = []
    for document in documents:
        prompt, response = prompt_and_response(document, tokenizer, chat_template=False)
        token_ids = _cut([*prompt, *response], length, tokenizer)
        items.append(_Item(document.document_id, document.document_id, token_ids, 1))
    return _likelihoods(judge, items)


def continuation_likelihoods(
    judge: Judge, rollouts: Sequence[Rollout], *, are_answers: bool = False
) -> list[Likelihood]:
    """Likelihood of each response given its prompt, in the judge's own tokens.

    Empty responses are left out. Prompts keep their end when both do not fit the context.

    Args:
        judge: Who reads.
        rollouts: Prompts and responses.
        are_answers: They answer a message, and do not go on with its text: the judge reads them in
            its own chat template, or apart by a space where it has none.
    """
    tokenizer = judge.backbone.tokenizer
    items = []
    for rollout in rollouts:
        prompt, response = _pair(tokenizer, rollout, are_answers=are_answers)
        room = judge.context_length - len(response)
        if room < 1:
            raise DataError(
                f"response {rollout.rollout_id!r} has {len(response)} tokens for the judge, whose "
                f"context is {judge.context_length}; shorten the horizon"
            )
        prompt = prompt[-room:]
        given = max(1, len(prompt))
        items.append(_Item(rollout.rollout_id, rollout.prompt_id, prompt + response, given))
    return _likelihoods(judge, items)


def _pair(tokenizer: Any, rollout: Rollout, *, are_answers: bool) -> tuple[list[int], list[int]]:
    if not are_answers:
        return encoded_pair(tokenizer, rollout.prompt_text, rollout.response_text)
    document = Document(rollout.rollout_id, rollout.prompt_text, rollout.response_text, "")
    has_template = bool(getattr(tokenizer, "chat_template", None))
    return prompt_and_response(document, tokenizer, chat_template=has_template)


def own_likelihoods(judge: Judge, rollouts: Sequence[Rollout]) -> list[Likelihood]:
    """Likelihood of each response given its prompt, in the very tokens that were drawn.

    For judges that share the tokens of the policy that drew them.
    """
    items = [
        _Item(r.rollout_id, r.prompt_id, [*r.prompt_ids, *r.response_ids], len(r.prompt_ids))
        for r in rollouts
    ]
    return _likelihoods(judge, items)


def perplexity_totals(rows: Sequence[Likelihood]) -> Totals:
    """Corpus perplexity, exp(all nats / all tokens), with its parts by group."""
    groups = [row.group for row in rows]
    totals = Totals.of_rows(groups, [row.nll for row in rows], [row.n_tokens for row in rows])
    return replace(totals, is_log=True)


def byte_totals(rows: Sequence[Likelihood]) -> Totals:
    """Bits per byte, comparable across tokenizers, with its parts by group."""
    bits = [row.nll / math.log(2) for row in rows]
    return Totals.of_rows([row.group for row in rows], bits, [row.n_bytes for row in rows])


def mean_perplexity_totals(rows: Sequence[Likelihood]) -> Totals:
    """Mean of the texts' own perplexities, those above 10,000 left out, by group."""
    kept = [row for row in rows if _is_in_mean(row)]
    values = [math.exp(row.nll_per_token) for row in kept]
    return Totals.of_rows([row.group for row in kept], values)


def left_out_totals(rows: Sequence[Likelihood], groups: Mapping[str, str]) -> Totals:
    """Share of texts that ``mean_perplexity_totals`` leaves out, by group.

    Args:
        rows: Texts with a likelihood.
        groups: Group of every text by its name, of those without a likelihood too.
    """
    kept = {row.text_id for row in rows if _is_in_mean(row)}
    values = [float(text not in kept) for text in groups]
    return Totals.of_rows([*groups.values()], values)


def _is_in_mean(row: Likelihood) -> bool:
    return row.nll_per_token < math.log(DROPPED_PERPLEXITY)


def _cut(token_ids: list[int], length: int, tokenizer: Any) -> list[int]:
    """The first tokens, ``length`` at most, without a part of a character at the cut.

    Such a part has no bytes to count: it decodes to a replacement character of three.
    """
    kept = token_ids[:length]
    for _ in range(LETTER_TOKENS - 1 if len(kept) < len(token_ids) else 0):
        if not tokenizer.decode(kept).endswith(INCOMPLETE):
            break
        kept = kept[:-1]
    return kept


def _likelihoods(judge: Judge, items: Sequence[_Item]) -> list[Likelihood]:
    judged = [item for item in items if len(item.token_ids) > item.given]
    # Equal lengths side by side waste no padding; the longest first, so memory fails early.
    order = sorted(range(len(judged)), key=lambda index: -len(judged[index].token_ids))
    at_once = BATCH_TOKENS_CPU if judge.device == "cpu" else BATCH_TOKENS
    batches: list[list[int]] = []
    while order:
        wanted = max(1, at_once // len(judged[order[0]].token_ids))
        batches.append(order[:wanted])
        order = order[wanted:]

    def work(batch: list[int]) -> list[Likelihood]:
        return list(_judge(judge, [judged[index] for index in batch]))

    with uneven_passes(judge.backbone.model):
        own = judge.workers.map(work, ranks().share(batches))
    found = chain.from_iterable(ranks().joined(own))
    rows = dict(zip(chain.from_iterable(batches), found, strict=True))
    return [rows[index] for index in range(len(judged))]


def _judge(judge: Judge, items: Sequence[_Item]) -> Iterator[Likelihood]:
    documents = [
        TokenizedDocument(item.text_id, "", tuple(item.token_ids), item.given) for item in items
    ]
    batch = collate(documents, pad_token(judge.backbone.tokenizer), horizon=len(items[0].token_ids))
    logprobs = judge.token_logprobs(batch.to(judge.device)).cpu().double()
    for item, row in zip(items, logprobs, strict=True):
        given, judged = item.token_ids[: item.given], item.token_ids[item.given :]
        text = response_text(judge.backbone.decode, given, judged)
        nll = -float(row[item.given - 1 : len(item.token_ids) - 1].sum())
        yield Likelihood(item.text_id, item.group, nll, len(judged), len(text.encode()))
