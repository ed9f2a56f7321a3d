"""A corpus that the base policy writes itself, once for all runs that ask for the same."""

import hashlib
import itertools
import json
from collections.abc import Generator, Sequence

from acft.assets import cache_folder
from acft.atomic import replace_json
from acft.backbone.loading import resolve_device, resolve_dtype
from acft.backbone.sharded import uneven_passes
from acft.data import TokenizedDocument, documents_from_rollouts, fingerprint
from acft.distributed import ranks
from acft.events import Event, Phase, Progress
from acft.policy import Policy
from acft.settings import CorpusSettings, RunSettings
from acft.training.rollout_files import from_plain, to_plain
from acft.types import Prompt, Rollout

DEFAULT_BASE_ROLLOUTS = 512
"""Texts of a corpus the base policy writes itself, unless ``max_documents`` says otherwise."""
BASE_PROMPTS = 64
"""Prompts that the base policy continues between two reports of progress."""
BASE_ROLLOUT_SEED = 20241007
"""Fixed; which prompts are continued follows the run's seed, so methods share texts at a seed."""


def base_rollouts(
    corpus: CorpusSettings, base: Policy, prompts: Sequence[Prompt], run: RunSettings
) -> Generator[Event, None, list[TokenizedDocument]]:
    """Progress while the base policy writes a corpus; returns its documents.

    It is remembered across runs under its ``base_rollouts_key``.
    """
    wanted = n_base_rollouts(corpus)
    model = base.backbone.sha256 + base.backbone.texts_sha256
    key = base_rollouts_key(corpus, model, prompts, run)
    file = cache_folder() / "base-rollouts" / f"{key}.json"
    # processes that train together must all draw, or none
    if known := ranks().from_first(file.read_text() if file.exists() else ""):
        rollouts = [from_plain(values) for values in json.loads(known)]
    else:
        rollouts = yield from _drawn_by_base(base, prompts, wanted, run)
        if ranks().rank == 0:
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_json(file, [to_plain(rollout) for rollout in rollouts])
    return documents_from_rollouts(rollouts[:wanted], corpus.domain, corpus.loss)


def base_rollouts_key(
    corpus: CorpusSettings, model: str, prompts: Sequence[Prompt], run: RunSettings
) -> str:
    """Names a corpus that the base policy writes by all that it depends on.

    Args:
        model: Hashes of its weights and of what lies beside them.
    """
    dtype = resolve_dtype(run.dtype, resolve_device(run.device))
    parts = [model, dtype, fingerprint(prompts), n_base_rollouts(corpus)]
    parts += [run.sampling.horizon, run.model.chat_template]
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:32]


def n_base_rollouts(corpus: CorpusSettings) -> int:
    """Texts that the base policy writes for the corpus."""
    return corpus.max_documents or DEFAULT_BASE_ROLLOUTS


def _drawn_by_base(
    base: Policy, prompts: Sequence[Prompt], wanted: int, run: RunSettings
) -> Generator[Event, None, list[Rollout]]:
    """Progress while ``wanted`` responses or a few more are drawn, shared out over processes."""
    each = -(-wanted // len(prompts))
    starts = range(0, -(-wanted // each), BASE_PROMPTS)
    drawn: list[list[Rollout]] = []
    done = 0
    yield Progress(Phase.CORPUS, 0, wanted, 0, "responses")
    with uneven_passes(base.backbone.model):
        for start in ranks().share(starts):
            some = prompts[start : start + BASE_PROMPTS]
            drawn.append(base.sample(some, each, run.sampling.at(), BASE_ROLLOUT_SEED).rollouts)
            done += len(drawn[-1]) * ranks().size
            yield Progress(Phase.CORPUS, min(done, wanted), wanted, 0, "responses")
    return list(itertools.chain.from_iterable(ranks().joined(drawn)))
