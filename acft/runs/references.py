"""What settings name beside numbers: registered parts, and files and folders of this machine."""

import functools
from collections.abc import Iterator, Sequence

from acft.backbone.loading import check_model
from acft.config import Config
from acft.constraints import ParsedConstraint
from acft.corpora.base import Source
from acft.corpora.files import local_path, looks_like_file
from acft.corpora.hub import PREFIX
from acft.corpora.sources import INLINE, source_problem
from acft.decoding.base import DECODERS
from acft.engines import ENGINES
from acft.engines.http import parse_address
from acft.engines.places import address_of
from acft.oracle.base import ORACLES
from acft.registry import Registry
from acft.runs.plain import errors, sources, told, unknown_texts
from acft.scorers import check_scorer_name, scorer_problem
from acft.settings import RunSettings
from acft.training.subjects import SubjectSettings


def unknown_names(settings: RunSettings, method_settings: Config | None) -> list[str]:
    """One sentence for each name that nothing is registered under, and an address that is none.

    Files are not looked for, and no server.
    """
    address = settings.engine.address
    found = [
        *[str(error) for error in errors(lambda: parse_address(address)) if address],
        *told("[engine] kind", settings.engine.kind, ENGINES.get),
        *told("[oracle] kind", settings.oracle.kind, ORACLES.get),
    ]
    found += unknown_texts(settings)
    for where, subject in _subjects(method_settings):
        found += told(f"[{where}] decoder", subject.decoder, DECODERS.get)
    return found


def missing_files(settings: RunSettings, constraints: Sequence[ParsedConstraint]) -> list[str]:
    """One sentence for each model, text or scorer on this machine that is not where it should be.

    Looks for files and reads the small ones that describe a model; opens no weights and no texts.
    What would come from a hub is not asked for.
    """
    found = [str(error) for error in errors(lambda: check_model(settings.model))]
    kind = settings.engine.kind
    if kind in ENGINES.names() and ENGINES.get(kind).needs_server:
        found += [str(error) for error in errors(lambda: address_of(settings.engine))]
    for where, source, registry in sources(settings):
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
        is_known = not errors(functools.partial(check_scorer_name, name))
        if is_known and (problem := scorer_problem(name)):
            found.append(f"{where} = {name!r}: {problem.removeprefix(f'scorer {name!r}: ')}")
    return found


def unreadable_texts(settings: RunSettings) -> list[str]:
    """One sentence for each file of texts whose first text does not read as the settings say.

    What follows it is not looked at. A missing or empty file is left to ``missing_files``.
    """
    found = []
    sections = (settings.prompts, *settings.corpus)
    for (where, source, registry), section in zip(sources(settings), sections, strict=True):
        if _is_file(source, registry):
            path = local_path(source)
            if path.is_file() and path.stat().st_size:
                found.append(source_problem(where, section))
    return list(filter(None, found))


def _is_file(source: str, registry: Registry[Source]) -> bool:
    """Whether a source is a file of this machine."""
    is_named = source.startswith((PREFIX, INLINE)) or source in registry.names()
    return looks_like_file(source) and not is_named


def _subjects(method_settings: Config | None) -> Iterator[tuple[str, SubjectSettings]]:
    for name in type(method_settings).model_fields if method_settings else ():
        value = getattr(method_settings, name)
        if isinstance(value, dict):
            for key, item in value.items():
                if isinstance(item, SubjectSettings):
                    yield f"method.{name}.{key}", item
