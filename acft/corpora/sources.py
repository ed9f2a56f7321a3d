"""From the ``source`` of a run's settings to records, and checks that need no work."""

from collections.abc import Iterable, Iterator

from acft.corpora.base import CORPORA, PROMPT_SETS, Record, Source
from acft.corpora.files import looks_like_file, read_file
from acft.corpora.hub import PREFIX, check_name, read_hub
from acft.errors import AcftError, ConfigError, DataError
from acft.registry import Registry
from acft.settings import CorpusSettings, PromptSettings, RunSettings

INLINE = "inline:"
"""Start of a source whose texts stand in the settings themselves, one on each line."""
FORMS = "; a local file ends in .jsonl, .csv, .parquet or .txt, a hub data set starts with 'hub:'"
"""Said where a source is no registered name."""


def prompt_records(settings: PromptSettings) -> Iterable[Record]:
    """Records of a prompt set, read as they are asked for.

    Raises:
        DataError: The source is unknown, missing or malformed.
        ModelError: It comes with a package that has not been obtained.
    """
    return _open(settings.source, PROMPT_SETS, settings.text_field, "")


def corpus_records(settings: CorpusSettings) -> Iterable[Record]:
    """Records of a corpus, read as they are asked for.

    Raises:
        DataError: The source is unknown, missing or malformed, or written by the policy.
        ModelError: It comes with a package that has not been obtained.
    """
    return _open(settings.source, CORPORA, settings.text_field, settings.prompt_field)


def needs_policy(settings: CorpusSettings) -> bool:
    """Whether the corpus is written by the policy itself when a run starts."""
    return settings.source in CORPORA.names() and CORPORA.get(settings.source).needs_policy


def check_sources(run: RunSettings) -> list[str]:
    """What is wrong with the prompts and corpora of a run, one sentence each.

    Reads one record of each source at most, and never the network.
    """
    problems = [source_problem("prompts", run.prompts)]
    problems += [source_problem(f"corpus.{i}", corpus) for i, corpus in enumerate(run.corpus)]
    return list(filter(None, problems))


def source_problem(where: str, settings: PromptSettings | CorpusSettings) -> str:
    """What is wrong with one source, as ``check_sources`` tells it; empty when nothing is."""
    try:
        fault = _fault(settings)
    except AcftError as error:
        fault = str(error)
    return f"[{where}] source = {settings.source!r}: {fault}" if fault else ""


def _fault(settings: PromptSettings | CorpusSettings) -> str:
    is_corpus = isinstance(settings, CorpusSettings)
    if settings.source.startswith(PREFIX):
        check_name(settings.source.removeprefix(PREFIX))
        return ""
    known = _registered(settings.source, CORPORA if is_corpus else PROMPT_SETS)
    if known is not None and is_corpus and settings.prompt_field:
        return "prompt_field is for files and hub data sets only; remove it"
    if known is not None and (known.needs_policy or known.needs_network):
        return ""
    records = corpus_records(settings) if is_corpus else prompt_records(settings)
    return "" if any(True for _ in records) else "it has no texts; name a source that has some"


def _open(
    source: str, registry: Registry[Source], text_field: str, prompt_field: str
) -> Iterable[Record]:
    are_prompts = registry is PROMPT_SETS
    if source.startswith(PREFIX):
        name = source.removeprefix(PREFIX)
        return read_hub(name, text_field, prompt_field, are_prompts=are_prompts)
    if source.startswith(INLINE):
        return _inline(source.removeprefix(INLINE))
    known = _registered(source, registry)
    if known is not None:
        return known.load()
    return read_file(source, text_field, prompt_field, are_prompts=are_prompts)


def _registered(source: str, registry: Registry[Source]) -> Source | None:
    if source not in registry.names() and (source.startswith(INLINE) or looks_like_file(source)):
        return None
    try:
        return registry.get(source)
    except ConfigError as error:
        raise DataError(f"{error}{FORMS}") from None


def _inline(text: str) -> Iterator[Record]:
    return (Record(line.strip()) for line in text.splitlines() if line.strip())
