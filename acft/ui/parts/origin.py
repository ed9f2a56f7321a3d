"""Where a settings text came from: the file it is of, and the command that launches the same."""

import shlex
from contextlib import suppress
from pathlib import Path

from acft.atomic import read_own_text
from acft.errors import ConfigError, DataError
from acft.runs.directory import read_launch
from acft.ui.control import preset, preset_names
from acft.ui.page import Visit, Workbench
from acft.ui.parts import settings_text

RUNS = "runs"
"""The folder that commands use unless told otherwise."""


def experiment(bench: Workbench, visit: Visit, text: str) -> str:
    """Name of the settings file whose settings a text has unchanged, which ``acft table`` counts.

    Empty for settings of their own. Those of a run are of the file that the run was of.
    """
    if source := visit.query.get("from", ""):
        return _of_run(bench, source, text)
    name = visit.query.get("preset", "")
    if name not in preset_names(bench.experiments):
        return ""
    return name if settings_text.overrides(preset(bench.experiments, name), text) == [] else ""


def command(bench: Workbench, visit: Visit, text: str) -> str:
    """The command line that launches exactly this text among the same runs."""
    name, file, before = visit.query.get("preset", ""), "", ""
    if name in preset_names(bench.experiments):
        file = _from_here(bench.experiments / f"{name}.toml")
        before = preset(bench.experiments, name)
    return settings_text.command(text, file, before, runs_option(bench))


def runs_option(bench: Workbench) -> str:
    """What a command says so that it finds the runs shown here; nothing in the usual folder."""
    runs = _from_here(bench.reader.runs_dir)
    return "" if runs == RUNS else f" --runs {shlex.quote(runs)}"


def _of_run(bench: Workbench, run_id: str, text: str) -> str:
    run = bench.reader.run(run_id)
    if run is None:
        return ""
    with suppress(OSError, UnicodeError, DataError, ConfigError):
        launch = read_launch(run.paths)
        before = settings_text.with_overrides(read_own_text(run.paths.spec), launch.overrides)
        return launch.experiment if settings_text.overrides(before, text) == [] else ""
    return ""


def _from_here(path: Path) -> str:
    """The path as a shell in this process's folder would name it."""
    path, here = path.resolve(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
