"""Grids of settings: every combination once, shown before it is queued."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from acft.errors import ConfigError, RunError
from acft.runs.comparison import by_fingerprint
from acft.runs.directory import new_run_id
from acft.runs.launcher import launch
from acft.runs.spec import Spec, parse_spec

MAX_RUNS = 200
SEPARATOR = "|"
ALTERNATIVE = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|[^|])+""")


@dataclass(frozen=True)
class Variant:
    """One combination."""

    spec: Spec
    existing: str = ""
    """A run with the same settings that is there already, if any."""


@dataclass(frozen=True)
class Plan:
    """What a sweep would queue; ``queue`` does it."""

    text: str
    experiment: str
    variants: tuple[Variant, ...]
    repeated: int
    """Combinations left out because another one asks for the same numbers."""

    @property
    def fresh(self) -> tuple[Variant, ...]:
        """Combinations that no run has yet."""
        return tuple(variant for variant in self.variants if not variant.existing)


def parse_axis(text: str) -> list[str]:
    """The overrides of ``section.key=a|b|c``; a bar inside quotes separates nothing.

    Raises:
        ConfigError: There is no ``=`` or no value.
    """
    key, equals, values = text.partition("=")
    found = [value.strip() for value in ALTERNATIVE.findall(values) if value.strip()]
    if not equals or not key.strip() or not found:
        raise ConfigError(f"grid {text!r} is not of the form section.key=a{SEPARATOR}b")
    return [f"{key.strip()}={value}" for value in found]


def plan(
    runs_dir: Path,
    text: str,
    axes: Sequence[Sequence[str]],
    overrides: Sequence[str] = (),
    experiment: str = "",
) -> Plan:
    """All combinations of the axes' overrides, checked; none is queued.

    Raises:
        ConfigError: There are too many, or any number of problems in any combination.
    """
    combinations = [(*overrides, *chosen) for chosen in itertools.product(*axes)]
    if len(combinations) > MAX_RUNS:
        raise ConfigError(f"the grid has {len(combinations)} runs; at most {MAX_RUNS} are allowed")
    existing = by_fingerprint(runs_dir)
    variants: dict[str, Variant] = {}
    for chosen in combinations:
        spec = parse_spec(text, chosen, has_files=True)
        fingerprint = spec.fingerprint
        found = Variant(spec, existing.get(fingerprint, ("", ""))[0])
        variants.setdefault(fingerprint, found)
    return Plan(text, experiment, tuple(variants.values()), len(combinations) - len(variants))


def queue(
    runs_dir: Path,
    sweep: Plan,
    confirmed_runs: int,
    now: float,
    *,
    request_id: str = "",
    cloned_from: str = "",
    mirror: Sequence[str] = (),
) -> list[str]:
    """Ids of the queued runs, one for each combination that no run has yet.

    Args:
        runs_dir: Directory of all runs.
        sweep: What to queue.
        confirmed_runs: How many runs somebody agreed to.
        now: Seconds since the epoch.
        request_id: Chosen by who asks, as for a single run.
        cloned_from: Run whose settings these were.
        mirror: Trackers that get a copy of the metrics.

    Raises:
        RunError: ``confirmed_runs`` is not the number of runs that would be queued.
    """
    if confirmed_runs != len(sweep.fresh):
        raise RunError(f"{confirmed_runs} runs were confirmed, but {len(sweep.fresh)} would start")
    name = f"sweep-{new_run_id(now)}"
    return [
        launch(
            runs_dir, sweep.text, variant.spec.overrides,
            request_id=f"{request_id or name}-{variant.spec.fingerprint}", cloned_from=cloned_from,
            sweep=name, experiment=sweep.experiment, mirror=mirror,
        )
        for variant in sweep.fresh
    ]  # fmt: skip
