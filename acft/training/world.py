"""What every method starts from: policies, constraint, prompts, corpora; loaded in one place."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from acft.backbone.loading import (
    model_sha256,
    model_texts_sha256,
    resolve_device,
    resolve_dtype,
)
from acft.constraints import Constraint, build_constraint
from acft.corpora.sources import INLINE, needs_policy
from acft.data import TokenizedDocument, fingerprint, load_documents, load_prompts, tokenize
from acft.distributed import ranks
from acft.engines import build_engine
from acft.errors import DataError
from acft.events import Event, Note, Phase, Progress
from acft.machine import cores
from acft.oracle.base import ORACLES
from acft.oracle.verdicts import prefix_verdicts
from acft.policy import Policy, base_policy, trainable_policy
from acft.prompt_tokens import check_lengths, encode_prompt
from acft.scorers import Scorer, biases
from acft.scoring import TextCounts
from acft.seeding import derive_seed
from acft.settings import CorpusSettings, RunSettings
from acft.threads import use_threads
from acft.training.base_rollouts import base_rollouts, base_rollouts_key
from acft.training.outputs import TrainContext
from acft.training.sparse import Key, key_of
from acft.types import Document, Prompt, Rollout

Corpora = list[tuple[float, list[TokenizedDocument]]]
"""Weight and training documents of each."""


@dataclass
class World:
    """Everything loaded; policies change while a method trains, the rest does not."""

    run: RunSettings
    base: Policy
    policy: Policy
    constraint: Constraint
    constraint_scorers: list[Scorer]
    """Scorers behind the constraint."""
    judges: list[Scorer]
    """Scorers that evaluate."""
    prompts: dict[str, list[Prompt]]
    """By split."""
    corpora: Corpora
    """Weight and training documents of each corpus."""
    held_out: dict[str, dict[str, list[Document]]] = field(default_factory=dict)
    """Documents of the general corpora that are never trained on, by source and split."""
    threads: int = 1
    texts: TextCounts = field(default_factory=TextCounts)
    """Counts what the scorers are asked."""
    _document_verdicts: dict[Key, Tensor] = field(default_factory=dict)
    """By tokens, not by name: rollouts of different rounds share their names."""

    @property
    def horizon(self) -> int:
        """Longest response in tokens."""
        return self.run.sampling.horizon

    @property
    def reads_verdicts(self) -> bool:
        """Whether the run's kind of oracle reads the constraint's verdict on every prefix."""
        return ORACLES.get(self.run.oracle.kind).reads_verdicts

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of response tokens."""
        return self.base.backbone.decode(token_ids)

    @contextmanager
    def divided_threads(self, jobs: int) -> Iterator[None]:
        """Each of several concurrent jobs gets its share of the threads.

        Two pools of threads on the same cores slow each other by an order of magnitude.
        """
        workers = self.base.workers
        before = workers.count
        torch.set_num_threads(max(1, self.threads // jobs))
        workers.count = 1
        try:
            yield
        finally:
            torch.set_num_threads(self.threads)
            workers.count = before

    @contextmanager
    def asked_in_shares(self) -> Iterator[None]:
        """Lets each process ask about other texts; the first, which is billed, counts them all."""
        if ranks().rank > 0:
            self.texts.take()  # of what was asked before, the first one's count is the bill
        yield
        for taken in ranks().joined([self.texts.take()]):
            self.texts.put(taken)

    def rollout_verdicts(self, rollouts: Sequence[Rollout]) -> Float[Tensor, "batch window"]:
        """Graded satisfaction of every prefix of each response, up to the horizon."""
        return prefix_verdicts(
            self.decode,
            [rollout.prompt_text for rollout in rollouts],
            [rollout.prompt_ids for rollout in rollouts],
            [rollout.response_ids for rollout in rollouts],
            self.constraint.score,
            self.horizon + 1,
        )

    def document_verdicts(
        self, documents: Sequence[TokenizedDocument]
    ) -> Float[Tensor, "batch window"]:
        """Graded satisfaction of every prefix of each response, up to the horizon; remembered."""
        known = self._document_verdicts
        new = {key_of(d): d for d in documents if key_of(d) not in known}
        if new:
            prompts = [d.token_ids[: d.response_start] for d in new.values()]
            rows = prefix_verdicts(
                self.decode,
                [self.decode(prompt) for prompt in prompts],
                prompts,
                [d.token_ids[d.response_start :][: self.horizon] for d in new.values()],
                self.constraint.score,
                self.horizon + 1,
            )
            known.update(zip(new, rows, strict=True))
        return torch.stack([known[key_of(d)] for d in documents])

    def snapshot(self) -> Policy:
        """A frozen copy of the policy as it is now."""
        return self.policy.snapshot(self.base)


def load_world(context: TrainContext) -> Generator[Event, None, World]:
    """Progress while everything loads; returns the ``World``.

    Raises:
        DataError: A corpus or prompt set is missing, empty or too small; a prompt or document is
            longer than the model's context.
        ModelError: A model or scorer cannot be had.
    """
    run = context.run
    threads = use_threads(run.schedule.threads)
    yield Progress(Phase.LOAD, 0, 4, context.resume_round, "parts")
    engine = build_engine(run)
    context.opened.callback(engine.close)
    prompts = prompts_by_split(run)
    pool = context.scorers
    constraint = build_constraint(run.constraint, pool)
    constraint_scorers: list[Scorer] = [pool(name) for name in constraint.scorers]
    judges: list[Scorer] = [pool(name) for name in run.evaluation.scorers]
    yield from _same_scorer_note(constraint, run)
    yield Progress(Phase.LOAD, 1, 4, context.resume_round, "parts")
    base = base_policy(run)
    _require_room(run, base, prompts)
    yield Progress(Phase.LOAD, 2, 4, context.resume_round, "parts")
    corpora, held_out = yield from _load_corpora(context, base, prompts["train"])
    yield Progress(Phase.LOAD, 3, 4, context.resume_round, "parts")
    # only now: texts that the base policy writes as a corpus are the same for all engines
    base.engine = engine
    seed = derive_seed(run.seed, "adapter")
    policy = trainable_policy(base, run.adapter, seed, run.optimizer)
    yield from _half_precision_note(policy)
    yield Progress(Phase.LOAD, 4, 4, context.resume_round, "parts")
    return World(
        run=run,
        base=base,
        policy=policy,
        constraint=constraint,
        constraint_scorers=constraint_scorers,
        judges=judges,
        prompts=prompts,
        corpora=corpora,
        held_out=held_out,
        threads=threads,
        texts=context.texts,
    )


def _load_corpora(
    context: TrainContext, base: Policy, prompts: Sequence[Prompt]
) -> Generator[Event, None, tuple[Corpora, dict[str, dict[str, list[Document]]]]]:
    """Progress of what the base policy writes; returns training and held-out documents."""
    run = context.run
    corpora: Corpora = []
    held_out: dict[str, dict[str, list[Document]]] = {}
    for index, corpus in enumerate(run.corpus):
        if needs_policy(corpus):
            documents = yield from base_rollouts(corpus, base, prompts, run)
        else:
            splits = context.documents.pop(index, None) or load_documents(corpus, run.seed)
            if corpus.domain == "general":
                held_out[corpus.source] = {name: splits[name] for name in ("validation", "test")}
            documents = tokenize(
                splits["train"],
                base.backbone.tokenizer,
                run.optimizer.max_tokens,
                run.seed,
                chat_template=run.model.chat_template,
                loss=corpus.loss,
                end_ids=base.backbone.end_ids,
                source=corpus.source,
            ).documents
        _require_short(documents, base, corpus)
        corpora.append((corpus.weight, documents))
    return corpora, held_out


def facts(context: TrainContext) -> dict[str, Any]:
    """Hashes and versions of what the run reads, for its provenance record."""
    run = context.run
    pool = context.scorers
    names = {*build_constraint(run.constraint, pool).scorers, *run.evaluation.scorers}
    scorers = [pool(name) for name in sorted(names)]
    sha256, texts = model_sha256(run.model), model_texts_sha256(run.model)
    prompts = load_prompts(run.prompts, run.seed)
    for_base = [prompt for prompt in prompts if prompt.split == "train"]
    return {
        "model_sha256": sha256,
        "model_texts_sha256": texts,
        "dtype": resolve_dtype(run.dtype, resolve_device(run.device)),
        "scorers": [{"name": s.name, "version": s.version, "sha256": s.sha256} for s in scorers],
        "prompts_sha256": fingerprint(prompts),
        "corpora": [
            {"name": _place(index, corpus), "version": "", "sha256": _texts_sha256(context, index)}
            for index, corpus in enumerate(run.corpus)
            if not needs_policy(corpus)
        ],
        "base_rollouts": [
            base_rollouts_key(corpus, sha256 + texts, for_base, run)
            for corpus in run.corpus
            if needs_policy(corpus)
        ],
        "cores": cores(),
        "threads": run.schedule.threads or cores(),
    }


def _place(index: int, corpus: CorpusSettings) -> str:
    source = "its texts" if corpus.source.startswith(INLINE) else corpus.source
    return f"[corpus.{index}] {source}"


def _texts_sha256(context: TrainContext, index: int) -> str:
    splits = load_documents(context.run.corpus[index], context.run.seed)
    context.documents[index] = splits  # large ones are not read twice
    return fingerprint(chain.from_iterable(splits.values()))


def prompts_by_split(run: RunSettings) -> dict[str, list[Prompt]]:
    """Prompts of a run by split.

    Raises:
        DataError: There is none to train with or none to validate with.
    """
    prompts: dict[str, list[Prompt]] = {"train": [], "validation": [], "test": []}
    for prompt in load_prompts(run.prompts, run.seed):
        prompts[prompt.split].append(prompt)
    for split in ("train", "validation"):
        if not prompts[split]:
            raise DataError(
                f"[prompts] source = {run.prompts.source!r} leaves no prompt in the {split} split; "
                "splits are made by a hash of each text (60/15/25), so give at least 20 prompts"
            )
    return prompts


def _require_room(run: RunSettings, base: Policy, prompts: dict[str, list[Prompt]]) -> None:
    """Every prompt that the run will come to, since the test prompts come last."""
    backbone = base.backbone
    used = prompts["train"] + prompts["validation"]
    used += prompts["test"][: run.evaluation.test_prompts]
    ids = [encode_prompt(backbone, prompt, chat_template=base.chat_template) for prompt in used]
    check_lengths(used, ids, run.sampling.horizon, backbone.context_length)


def _require_short(
    documents: Sequence[TokenizedDocument], base: Policy, corpus: CorpusSettings
) -> None:
    context = base.backbone.context_length
    longest = max((len(document.token_ids) for document in documents), default=0)
    if longest > context:
        raise DataError(
            f"[corpus] source = {corpus.source!r} has documents of {longest} tokens, but the "
            f"context of {base.backbone.name!r} is {context}; set [optimizer] max_tokens to "
            f"{context} or less, so that they are cut"
        )


def _same_scorer_note(constraint: Constraint, run: RunSettings) -> Iterator[Event]:
    for bias in biases(constraint.scorers, run.evaluation.scorers):
        yield Note(
            "warning",
            f"{bias}; its own judgement is biased, name another scorer in [evaluation] scorers",
        )


def _half_precision_note(policy: Policy) -> Iterator[Event]:
    """Weights of few bits swallow small updates; adapters are kept in float32 anyway."""
    if any(p.dtype in (torch.bfloat16, torch.float16) for p in policy.parameters()):
        yield Note(
            "warning",
            "weights trained in half precision lose updates below a 256th of their size; set "
            "dtype = 'float32', or train adapters with [adapter] kind = 'lora'",
        )
