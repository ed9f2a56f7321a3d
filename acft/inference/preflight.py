"""What a run would read, before it starts: texts as the loss sees them, prompts, room, time."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acft.backbone.loading import load_end_ids, load_tokenizer
from acft.corpora.sources import check_sources, needs_policy
from acft.data import load_documents, load_prompts, tokenize
from acft.errors import AcftError, RunError
from acft.inference.preview import preview
from acft.inference.server import Session
from acft.runs.estimates import Estimate, estimate
from acft.runs.space import check_room
from acft.runs.spec import parse_spec
from acft.settings import CorpusSettings, RunSettings

SHOWN = 2
"""Documents of each corpus."""
SHOWN_TOKENS = 80


def preflight(
    _: Session,
    runs: str,
    text: str,
    quota_bytes: int = 0,
) -> dict[str, Any]:
    """Problems with sources, sizes of splits, samples with their loss mask, disk, expected time.

    Raises:
        ConfigError: The settings have problems of their own.
        ModelError: The model cannot be opened.
    """
    spec = parse_spec(text)
    run = spec.settings
    expected = estimate(Path(runs), spec)
    found: dict[str, Any] = {
        "problems": [*check_sources(run), *_no_room(runs, expected, quota_bytes)],
        "free_bytes": shutil.disk_usage(runs).free,
        "expected": None if expected is None else dataclasses.asdict(expected),
    }
    if not found["problems"]:
        prompts = load_prompts(run.prompts, run.seed)
        splits = ("train", "validation", "test")
        found["prompts"] = {s: sum(p.split == s for p in prompts) for s in splits}
        tokenizer = load_tokenizer(run.model)
        end_ids = load_end_ids(run.model, tokenizer)
        found["corpora"] = [_corpus(run, corpus, tokenizer, end_ids) for corpus in run.corpus]
    return found


def _no_room(runs: str, expected: Estimate | None, quota_bytes: int) -> list[str]:
    try:
        check_room(Path(runs), expected.bytes if expected else 0, quota_bytes)
    except RunError as error:
        return [str(error)]
    return []


def _corpus(
    run: RunSettings, corpus: CorpusSettings, tokenizer: Any, end_ids: Sequence[int]
) -> dict[str, Any]:
    facts: dict[str, Any] = {"source": corpus.source, "domain": corpus.domain}
    if needs_policy(corpus):
        return {**facts, "note": "written by the policy when the run starts"}
    try:
        splits = load_documents(corpus, run.seed)
        made = tokenize(
            splits["train"][:500], tokenizer, run.optimizer.max_tokens, run.seed,
            chat_template=run.model.chat_template, loss=corpus.loss, end_ids=end_ids,
        )  # fmt: skip
    except AcftError as error:
        return {**facts, "note": str(error)}
    samples = preview(made.documents, tokenizer, run.sampling.horizon, SHOWN)
    return {
        **facts,
        "documents": {name: len(items) for name, items in splits.items()},
        "n_dropped": made.n_dropped,
        "n_cut": made.n_cut,
        "n_looked_at": len(splits["train"][:500]),
        "samples": [[dataclasses.asdict(t) for t in s[:SHOWN_TOKENS]] for s in samples],
    }
