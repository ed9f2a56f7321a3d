"""How well a policy still predicts ordinary texts."""

from collections.abc import Generator, Iterator, Sequence

from acft.benchmarks.base import READ, SUITES, Bench, Measured, Suite, SuiteOutput, Work
from acft.config import Config
from acft.corpora.sources import corpus_records, needs_policy
from acft.data import load_documents
from acft.errors import AcftError, DataError, ModelError
from acft.events import Note, Phase, Progress
from acft.likelihood import (
    MAX_TOKENS,
    Judge,
    Likelihood,
    byte_totals,
    document_likelihoods,
    left_out_totals,
    mean_perplexity_totals,
    perplexity_totals,
)
from acft.settings import CorpusSettings, Names, Positive, RunSettings
from acft.types import Document

CHUNK_DOCUMENTS = 16
OUT_OF_DOMAIN = "brown"
"""Judged too when nothing is named and it is installed."""


class PerplexitySettings(Config):
    """Which held-out texts are predicted."""

    corpora: Names = ()
    """Corpora, as in ``[corpus]``, read whole, those of the run with its columns; empty: its
    general ones as it reads them, and Brown where it is there."""
    documents: Positive = 100
    """Use at most this many documents of each corpus's test split (seeded choice)."""
    max_tokens: Positive = MAX_TOKENS
    """Longer documents are cut."""


def run(settings: PerplexitySettings, bench: Bench) -> Generator[SuiteOutput, None, Measured]:
    """Corpus perplexity and bits per byte of held-out texts, corpus by corpus."""
    measured: Measured = {}
    assert bench.reader is not None
    for corpus, is_optional in _corpora(settings, bench.run):
        try:
            documents = load_documents(corpus, bench.seed)["test"][: settings.documents]
        except (DataError, ModelError) as error:
            if not is_optional:
                raise
            yield Note("info", _not_there(corpus, error), bench.round)
            continue
        rows = yield from likelihoods(bench.reader, documents, settings.max_tokens, bench)
        measured |= measurements(documents, rows, corpus.source)
    return measured


def work(settings: PerplexitySettings, run: RunSettings) -> Work:
    """Texts to be read, at most."""
    n_texts = settings.documents * len(list(_corpora(settings, run)))
    return {(READ, settings.model_dump_json()): n_texts}


def left_out(settings: PerplexitySettings, run: RunSettings) -> list[str]:
    """That Brown is not judged, where it would be if it were there."""
    found = []
    for corpus in [corpus for corpus, is_optional in _corpora(settings, run) if is_optional]:
        try:
            next(iter(corpus_records(corpus)), None)
        except (DataError, ModelError) as error:
            found.append(_not_there(corpus, error))
    return found


def measurements(documents: Sequence[Document], rows: Sequence[Likelihood], texts: str) -> Measured:
    """Both perplexities, what the mean leaves out, and bits per byte of the texts of that name."""
    groups = {document.document_id: document.document_id for document in documents}
    return {
        f"perplexity/{texts}": perplexity_totals(rows),
        f"mean_perplexity/{texts}": mean_perplexity_totals(rows),
        f"left_out_share/{texts}": left_out_totals(rows, groups),
        f"bits_per_byte/{texts}": byte_totals(rows),
    }


def likelihoods(
    reader: Judge, documents: Sequence[Document], max_tokens: int, bench: Bench
) -> Generator[SuiteOutput, None, list[Likelihood]]:
    """Likelihood of each document under the policy and its decoder, with progress."""
    rows: list[Likelihood] = []
    for start in range(0, len(documents), CHUNK_DOCUMENTS):
        if bench.stops():
            break
        chunk = documents[start : start + CHUNK_DOCUMENTS]
        rows += document_likelihoods(reader, chunk, max_tokens)
        done = min(start + CHUNK_DOCUMENTS, len(documents))
        yield Progress(Phase.EVALUATE, done, len(documents), bench.round, "documents")
    return rows


def _not_there(corpus: CorpusSettings, error: AcftError) -> str:
    return f"no perplexity on {corpus.source}: {error}"


def _named(settings: PerplexitySettings, run: RunSettings) -> list[CorpusSettings]:
    """The whole of each that is named; the columns of the run's own decide their test splits."""
    known = {c.source: c.model_copy(update={"max_documents": 0}) for c in run.corpus}
    return [known.get(name, CorpusSettings(source=name)) for name in settings.corpora]


def missing(settings: PerplexitySettings) -> list[str]:
    """One sentence for each corpus that exists inside a training run only."""
    return [
        f"[method.options.perplexity] corpora = {name!r}: is written by the policy when a run "
        "starts; name texts that are there before"
        for name in settings.corpora
        if needs_policy(CorpusSettings(source=name))
    ]


def _corpora(
    settings: PerplexitySettings, run: RunSettings
) -> Iterator[tuple[CorpusSettings, bool]]:
    """Corpora to judge, and whether one that is not there may be left out."""
    if settings.corpora:
        yield from ((corpus, False) for corpus in _named(settings, run))
        return
    general = [c for c in run.corpus if c.domain == "general" and not needs_policy(c)]
    yield from ((corpus, False) for corpus in general)
    if OUT_OF_DOMAIN not in {corpus.source for corpus in general}:
        yield CorpusSettings(source=OUT_OF_DOMAIN), True


SUITES.add("perplexity")(
    Suite(
        PerplexitySettings,
        run,
        work=work,
        reads=lambda settings, run: [
            corpus for corpus, is_optional in _corpora(settings, run) if not is_optional
        ],
        missing=missing,
        left_out=left_out,
        needs_likelihoods=True,
    )
)
