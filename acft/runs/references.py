"""What settings name beside numbers: registered parts, and files and folders of this machine."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from acft.backbone.loading import check_model
from acft.config import Config
from acft.constraints import ParsedConstraint
from acft.corpora.base import CORPORA, PROMPT_SETS, Source
from acft.corpora.files import local_path, looks_like_file
from acft.corpora.hub import PREFIX, check_name
from acft.corpora.sources import FORMS, INLINE, source_problem
from acft.decoding.base import DECODERS
from acft.engines import ENGINES
from acft.engines.http import parse_address
from acft.engines.places import address_of
from acft.errors import AcftError
from acft.oracle.base import ORACLES
from acft.registry import Registry
from acft.scorers import check_scorer_name, scorer_problem
from acft.settings import RunSettings
from acft.training.subjects import SubjectSettings

NAMES = {
    "model": ("name",), "prompts": ("source", "text_field"), "oracle": ("kind",),
    "engine": ("kind",),
}  # fmt: skip
"""Sections and what in them names something, columns of files too."""
COLUMNS = ("text_field", "prompt_field")
"""What names something in a corpus, beside its source."""


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


def _texts_of(table: Any, names: Sequence[str]) -> dict[str, str]:
    """Those of the settings that are texts, as they should be."""
    found = table if isinstance(table, Mapping) else {}
    return {name: found[name] for name in names if isinstance(found.get(name), str)}


def unknown_names(settings: RunSettings, method_settings: Config | None) -> list[str]:
    """One sentence for each name that nothing is registered under, and an address that is none.

    Files are not looked for, and no server.
    """
    address = settings.engine.address
    found = [
        *[str(error) for error in _errors(lambda: parse_address(address)) if address],
        *_told("[engine] kind", settings.engine.kind, ENGINES.get),
        *_told("[oracle] kind", settings.oracle.kind, ORACLES.get),
    ]
    for name in settings.evaluation.scorers:
        found += _told("[evaluation] scorers", name, check_scorer_name)
    for where, source, registry in _sources(settings):
        found += _told(f"[{where}] source", source, _source_check(registry))
    for where, subject in _subjects(method_settings):
        found += _told(f"[{where}] decoder", subject.decoder, DECODERS.get)
    return found


def missing_files(settings: RunSettings, constraints: Sequence[ParsedConstraint]) -> list[str]:
    """One sentence for each model, text or scorer on this machine that is not where it should be.

    Looks for files and reads the small ones that describe a model; opens no weights and no texts.
    What would come from a hub is not asked for.
    """
    found = [str(error) for error in _errors(lambda: check_model(settings.model))]
    kind = settings.engine.kind
    if kind in ENGINES.names() and ENGINES.get(kind).needs_server:
        found += [str(error) for error in _errors(lambda: address_of(settings.engine))]
    for where, source, registry in _sources(settings):
        if not _is_file(source, registry):
            continue
        path = local_path(source)
        if not path.is_file():
            found.append(
                f"[{where}] source = {source!r}: no such file; check the path, relative ones "
                "start where the command or the workbench was started"
            )
        elif not path.stat().st_size:
            found.append(f"[{where}] source = {source!r}: the file is empty; name another")
    asked = [("[evaluation] scorers", name) for name in settings.evaluation.scorers]
    asked += [
        (f"[constraint.{index}] scorer", name)
        for index, constraint in enumerate(constraints)
        for name in constraint.scorer_names()
    ]
    for where, name in asked:
        is_known = not _errors(functools.partial(check_scorer_name, name))
        if is_known and (problem := scorer_problem(name)):
            found.append(f"{where} = {name!r}: {problem.removeprefix(f'scorer {name!r}: ')}")
    return found


def unreadable_texts(settings: RunSettings) -> list[str]:
    """One sentence for each file of texts whose first text does not read as the settings say.

    What follows it is not looked at. A missing or empty file is left to ``missing_files``.
    """
    found = []
    sections = (settings.prompts, *settings.corpus)
    for (where, source, registry), section in zip(_sources(settings), sections, strict=True):
        if _is_file(source, registry):
            path = local_path(source)
            if path.is_file() and path.stat().st_size:
                found.append(source_problem(where, section))
    return list(filter(None, found))


def _is_file(source: str, registry: Registry[Source]) -> bool:
    """Whether a source is a file of this machine."""
    is_named = source.startswith((PREFIX, INLINE)) or source in registry.names()
    return looks_like_file(source) and not is_named


def _told(where: str, name: str, find: Callable[[str], Any]) -> list[str]:
    return [f"{where} = {name!r}: {error}" for error in _errors(lambda: find(name))]


def _errors(look: Callable[[], Any]) -> list[AcftError]:
    try:
        look()
    except AcftError as error:
        return [error]
    return []


def _sources(settings: RunSettings) -> Iterator[tuple[str, str, Registry[Source]]]:
    yield "prompts", settings.prompts.source, PROMPT_SETS
    for index, corpus in enumerate(settings.corpus):
        yield f"corpus.{index}", corpus.source, CORPORA


def _source_check(registry: Registry[Source]) -> Callable[[str], Any]:
    def check(source: str) -> None:
        if source in registry.names() or source.startswith(INLINE):
            return
        if source.startswith(PREFIX):
            check_name(source.removeprefix(PREFIX))
        elif not looks_like_file(source):
            for error in _errors(lambda: registry.get(source)):
                raise type(error)(f"{error}{FORMS}")

    return check


def _subjects(method_settings: Config | None) -> Iterator[tuple[str, SubjectSettings]]:
    for name in type(method_settings).model_fields if method_settings else ():
        value = getattr(method_settings, name)
        if isinstance(value, dict):
            for key, item in value.items():
                if isinstance(item, SubjectSettings):
                    yield f"method.{name}.{key}", item
