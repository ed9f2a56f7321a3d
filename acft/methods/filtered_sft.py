"""Filtering: what violates the constraint is dropped from the corpus, the rest is learned."""

from collections.abc import Generator, Sequence
from typing import Annotated

from pydantic import Field

from acft.config import Config
from acft.data import TokenizedDocument
from acft.errors import DataError
from acft.events import Note, Phase, Progress
from acft.methods.base import METHODS, Method
from acft.methods.sft import fitted_to_corpus, needs_corpus
from acft.prompt_tokens import response_text
from acft.settings import CorpusSettings
from acft.training.outputs import Output, TrainContext
from acft.training.world import World, facts, load_world

BATCH = 256
"""Documents judged between two progress events."""


class FilteredSftSettings(Config):
    """What counts as violating."""

    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Documents whose graded satisfaction is not above this are dropped; the verdict is at 0.5."""


def train(settings: FilteredSftSettings, context: TrainContext) -> Generator[Output, None, None]:
    """Plain fine-tuning on the corpus without the documents that violate the constraint."""
    world = yield from load_world(context)
    kept = []
    for corpus, (weight, documents) in zip(context.run.corpus, world.corpora, strict=True):
        satisfying = yield from _satisfying(world, documents, settings.threshold, corpus)
        kept.append((weight, satisfying))
        yield Note(
            "info",
            f"dropped {len(documents) - len(satisfying)} of {len(documents)} documents of "
            f"{corpus.source}, which satisfy the constraint ({world.constraint.describe()}) to at "
            f"most {settings.threshold:g}",
            context.resume_round,
        )
    world.corpora = kept
    yield from fitted_to_corpus(world, context)


def _satisfying(
    world: World,
    documents: Sequence[TokenizedDocument],
    threshold: float,
    corpus: CorpusSettings,
) -> Generator[Output, None, list[TokenizedDocument]]:
    """The documents whose learned part satisfies the constraint.

    That is the response behind its prompt where prompts carry no loss, else the whole text.
    """
    kept: list[TokenizedDocument] = []
    for start in range(0, len(documents), BATCH):
        yield Progress(Phase.FILTER, start, len(documents), 0, "documents")
        some = documents[start : start + BATCH]
        given = [d.response_start if corpus.loss == "response" else 0 for d in some]
        parts = [(d.token_ids[:n], d.token_ids[n:]) for d, n in zip(some, given, strict=True)]
        prompts = [world.decode(prompt) for prompt, _ in parts]
        texts = [response_text(world.decode, *part) for part in parts]
        grades = world.constraint.score(prompts, texts)
        kept += [
            document for document, grade in zip(some, grades, strict=True) if grade > threshold
        ]
    yield Progress(Phase.FILTER, len(documents), len(documents), 0, "documents")
    if not kept:
        raise DataError(
            f"[corpus] source = {corpus.source!r}: all {len(documents)} documents violate the "
            f"constraint at [method] threshold = {threshold}; lower it or use another corpus"
        )
    return kept


METHODS.add("filtered_sft")(Method(FilteredSftSettings, train, facts, contradictions=needs_corpus))
