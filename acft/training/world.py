"""What every method starts from: policies, constraint, prompts, corpora; loaded in one place."""

import hashlib
import itertools
import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from acft.assets import cache_folder
from acft.atomic import replace_json
from acft.backbone.loading import model_sha256, resolve_device, resolve_dtype
from acft.backbone.sharded import uneven_passes
from acft.constraints import Constraint, build_constraint
from acft.corpora.sources import needs_policy
from acft.data import (
    TokenizedDocument,
    documents_from_rollouts,
    fingerprint,
    load_documents,
    load_prompts,
    tokenize,
)
from acft.distributed import ranks
from acft.engines import build_engine
from acft.errors import DataError
from acft.events import Event, Note, Progress
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
from acft.training.outputs import TrainContext
from acft.training.sparse import Key, key_of
from acft.types import Document, Prompt, Rollout

DEFAULT_BASE_ROLLOUTS = 512
"""Texts of a corpus the base policy writes itself, unless ``max_documents`` says otherwise."""
TUPLE_FIELDS = ("prompt_ids", "response_ids", "response_logprobs")
"""Fields of a rollout that JSON turns into lists."""
BASE_PROMPTS = 64
"""Prompts that the base policy continues between two reports of progress."""
BASE_ROLLOUT_SEED = 20241007
"""Fixed; which prompts are continued follows the run's seed, so methods share texts at a seed."""

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
    yield Progress("load", 0, 4, context.resume_round, "parts")
    engine = build_engine(run)
    context.opened.callback(engine.close)
    prompts = prompts_by_split(run)
    pool = context.scorers
    constraint = build_constraint(run.constraint, pool)
    constraint_scorers: list[Scorer] = [pool(name) for name in constraint.scorers]
    judges: list[Scorer] = [pool(name) for name in run.evaluation.scorers]
    yield from _same_scorer_note(constraint, run)
    yield Progress("load", 1, 4, context.resume_round, "parts")
    base = base_policy(run)
    _require_room(run, base, prompts)
    yield Progress("load", 2, 4, context.resume_round, "parts")
    corpora, held_out = yield from _load_corpora(run, base, prompts["train"])
    yield Progress("load", 3, 4, context.resume_round, "parts")
    # only now: texts that the base policy writes as a corpus are the same for all engines
    base.engine = engine
    seed = derive_seed(run.seed, "adapter")
    policy = trainable_policy(base, run.adapter, seed, run.optimizer)
    yield from _half_precision_note(policy)
    yield Progress("load", 4, 4, context.resume_round, "parts")
    return World(
        run,
        base,
        policy,
        constraint,
        constraint_scorers,
        judges,
        prompts,
        corpora,
        held_out,
        threads,
        context.texts,
    )


def _load_corpora(
    run: RunSettings, base: Policy, prompts: Sequence[Prompt]
) -> Generator[Event, None, tuple[Corpora, dict[str, dict[str, list[Document]]]]]:
    """Progress of what the base policy writes; returns training and held-out documents."""
    corpora: Corpora = []
    held_out: dict[str, dict[str, list[Document]]] = {}
    for corpus in run.corpus:
        if needs_policy(corpus):
            documents = yield from base_rollouts(corpus, base, prompts, run)
        else:
            splits = load_documents(corpus, run.seed)
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
            ).documents
        _require_short(documents, base, corpus)
        corpora.append((corpus.weight, documents))
    return corpora, held_out


def base_rollouts(
    corpus: CorpusSettings, base: Policy, prompts: Sequence[Prompt], run: RunSettings
) -> Generator[Event, None, list[TokenizedDocument]]:
    """Progress while the base policy writes a corpus; returns its documents.

    It is remembered across runs under its ``base_rollouts_key``.
    """
    wanted = _n_base_rollouts(corpus)
    key = base_rollouts_key(corpus, base.backbone.sha256, prompts, run)
    file = cache_folder() / "base-rollouts" / f"{key}.json"
    # processes that train together must all draw, or none
    if known := ranks().from_first(file.read_text() if file.exists() else ""):
        rollouts = [_rollout(values) for values in json.loads(known)]
    else:
        rollouts = yield from _drawn_by_base(base, prompts, wanted, run)
        if ranks().rank == 0:
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_json(file, [_plain(rollout) for rollout in rollouts])
    return documents_from_rollouts(rollouts[:wanted], corpus.domain, corpus.loss)


def base_rollouts_key(
    corpus: CorpusSettings, model_sha256: str, prompts: Sequence[Prompt], run: RunSettings
) -> str:
    """Names a corpus that the base policy writes by all that it depends on."""
    dtype = resolve_dtype(run.dtype, resolve_device(run.device))
    parts = [model_sha256, dtype, fingerprint(prompts), _n_base_rollouts(corpus)]
    parts += [run.sampling.horizon, run.model.chat_template]
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:32]


def _n_base_rollouts(corpus: CorpusSettings) -> int:
    return corpus.max_documents or DEFAULT_BASE_ROLLOUTS


def _drawn_by_base(
    base: Policy, prompts: Sequence[Prompt], wanted: int, run: RunSettings
) -> Generator[Event, None, list[Rollout]]:
    """Progress while ``wanted`` responses or a few more are drawn, shared out over processes."""
    each = -(-wanted // len(prompts))
    starts = range(0, -(-wanted // each), BASE_PROMPTS)
    drawn: list[list[Rollout]] = []
    done = 0
    yield Progress("corpus", 0, wanted, 0, "responses")
    with uneven_passes(base.backbone.model):
        for start in ranks().share(starts):
            some = prompts[start : start + BASE_PROMPTS]
            drawn.append(base.sample(some, each, run.sampling.at(), BASE_ROLLOUT_SEED).rollouts)
            done += len(drawn[-1]) * ranks().size
            yield Progress("corpus", min(done, wanted), wanted, 0, "responses")
    return list(itertools.chain.from_iterable(ranks().joined(drawn)))


def facts(context: TrainContext) -> dict[str, Any]:
    """Hashes and versions of what the run reads, for its provenance record."""
    run = context.run
    pool = context.scorers
    names = {*build_constraint(run.constraint, pool).scorers, *run.evaluation.scorers}
    scorers = [pool(name) for name in sorted(names)]
    sha256, prompts = model_sha256(run.model), load_prompts(run.prompts, run.seed)
    for_base = [prompt for prompt in prompts if prompt.split == "train"]
    return {
        "model_sha256": sha256,
        "dtype": resolve_dtype(run.dtype, resolve_device(run.device)),
        "scorers": [{"name": s.name, "version": s.version, "sha256": s.sha256} for s in scorers],
        "prompts_sha256": fingerprint(prompts),
        "base_rollouts": [
            base_rollouts_key(corpus, sha256, for_base, run)
            for corpus in run.corpus
            if needs_policy(corpus)
        ],
        "cores": cores(),
        "threads": run.schedule.threads or cores(),
    }


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


def _plain(rollout: Rollout) -> dict[str, Any]:
    return {name: getattr(rollout, name) for name in rollout.__dataclass_fields__}


def _rollout(values: dict[str, Any]) -> Rollout:
    tuples = {name: tuple(values[name]) for name in TUPLE_FIELDS}
    return Rollout(**{**values, **tuples})


def rollouts_to_file(rollouts: Sequence[Rollout], file: Path) -> None:
    """Write rollouts so that ``rollouts_from_file`` gives them back exactly."""
    file.write_text(json.dumps([_plain(rollout) for rollout in rollouts]))


def rollouts_from_file(file: Path) -> list[Rollout]:
    """Rollouts written by ``rollouts_to_file``."""
    return [_rollout(values) for values in json.loads(file.read_text())]
