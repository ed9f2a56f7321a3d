"""What can be said of a run's settings before torch is imported, which takes seconds."""

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from acft.constraints import ParsedConstraint, parse_constraints
from acft.corpora.base import CORPORA, PROMPT_SETS, Source
from acft.corpora.files import looks_like_file
from acft.corpora.hub import PREFIX, check_name
from acft.corpora.sources import FORMS, INLINE
from acft.errors import AcftError, ConfigError
from acft.registry import Registry
from acft.scorers import check_scorer_name
from acft.settings import RunSettings, as_asked

NAMES = {
    "model": ("name",), "prompts": ("source", "text_field"), "oracle": ("kind",),
    "engine": ("kind",),
}  # fmt: skip
"""Sections and what in them names something, columns of files too."""
COLUMNS = ("text_field", "prompt_field")
"""What names something in a corpus, beside its source."""

T = TypeVar("T")


def check_plain(text: str, overrides: Sequence[str] = (), where: str = "") -> None:
    """Returns unless the shared settings of a TOML text or its constraints are wrong.

    What belongs to the method and to parts that compute is left to ``parse_spec``, which finds
    these problems too; a command asks this first, so that most mistakes are told at once.

    Raises:
        ConfigError: Any number of problems, one line for each.
    """
    values = values_of(text, overrides, where)
    problems: list[str] = []
    settings = collect(problems, lambda: RunSettings.parse(values))
    collect(problems, lambda: constraints_of(values))
    problems += unknown_texts(settings or names_alone(values))
    if problems:
        raise ConfigError("\n".join(problems))


def values_of(text: str, overrides: Sequence[str], where: str) -> dict[str, Any]:
    """The settings of a TOML text with ``overrides`` on top, not yet checked.

    Raises:
        ConfigError: The text is not TOML, or an override cannot be applied.
    """
    try:
        written = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        text_is = f"{where!r} is" if where else "the settings are"
        raise ConfigError(f"{text_is} not valid TOML: {error}") from None
    return as_asked(written, overrides)


def constraints_of(values: Mapping[str, Any]) -> tuple[ParsedConstraint, ...]:
    """The constraints that the values name.

    Raises:
        ConfigError: Any number of problems, one line for each.
    """
    value = values.get("constraint", RunSettings.model_fields["constraint"].default)
    # A wrong type is reported by RunSettings; here it must only not end the search for problems.
    tables = value if isinstance(value, (list, tuple)) else []
    return parse_constraints([table for table in tables if isinstance(table, Mapping)])


def collect(problems: list[str], parse: Callable[[], T]) -> T | None:
    """What ``parse`` returns; nothing where it raises, and then its problems are added."""
    try:
        return parse()
    except ConfigError as error:
        problems.extend(str(error).splitlines())
        return None


def names_alone(values: Mapping[str, Any]) -> RunSettings:
    """Settings that name what the values name and leave the rest at its default.

    With them names can be looked up although another value is wrong.
    """
    sections = {key: table for key, table in values.items() if isinstance(table, Mapping)}
    kept: dict[str, Any] = {
        section: _texts_of(sections.get(section, {}), names) for section, names in NAMES.items()
    }
    scorers = sections.get("evaluation", {}).get("scorers")
    if isinstance(scorers, list):
        kept["evaluation"] = {"scorers": [name for name in scorers if isinstance(name, str)]}
    if isinstance(values.get("corpus"), list):
        kept["corpus"] = [
            {"source": INLINE} | _texts_of(table, ("source", *COLUMNS))
            for table in values["corpus"]
        ]
    return RunSettings.parse(kept)


def unknown_texts(settings: RunSettings) -> list[str]:
    """One sentence for each scorer and each source of texts that nothing is registered under."""
    found = []
    for name in settings.evaluation.scorers:
        found += told("[evaluation] scorers", name, check_scorer_name)
    for where, source, registry in sources(settings):
        found += told(f"[{where}] source", source, _source_check(registry))
    return found


def sources(settings: RunSettings) -> Iterator[tuple[str, str, Registry[Source]]]:
    """Section, source and registry of the prompts and of each corpus."""
    yield "prompts", settings.prompts.source, PROMPT_SETS
    for index, corpus in enumerate(settings.corpus):
        yield f"corpus.{index}", corpus.source, CORPORA


def told(where: str, name: str, find: Callable[[str], Any]) -> list[str]:
    """The sentence that refuses a name, with the place where it is written; empty if it is fine."""
    return [f"{where} = {name!r}: {error}" for error in errors(lambda: find(name))]


def errors(look: Callable[[], Any]) -> list[AcftError]:
    """What is wrong for the user, if anything is."""
    try:
        look()
    except AcftError as error:
        return [error]
    return []


def _texts_of(table: Any, names: Sequence[str]) -> dict[str, str]:
    """Those of the settings that are texts, as they should be."""
    found = table if isinstance(table, Mapping) else {}
    return {name: found[name] for name in names if isinstance(found.get(name), str)}


def _source_check(registry: Registry[Source]) -> Callable[[str], Any]:
    def check(source: str) -> None:
        if source in registry.names() or source.startswith(INLINE):
            return
        if source.startswith(PREFIX):
            check_name(source.removeprefix(PREFIX))
        elif not looks_like_file(source):
            for error in errors(lambda: registry.get(source)):
                raise type(error)(f"{error}{FORMS}")

    return check
