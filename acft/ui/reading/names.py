"""What runs are called beside each other, since one title often names several."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from acft.ui.reading.reader import Reader, Run
from acft.ui.web import words

TITLE_LETTERS = 36
"""Of a title in a legend, which is cut off where it is wider than its chart, and of overrides."""

Words = tuple[str, ...]
"""What is said of a run, the last to be added first."""


def run_names(reader: Reader, runs: Sequence[Run]) -> dict[str, str]:
    """Of each run its title after what tells it from the others of that title."""
    told = _further(_told(reader, runs), lambda alike: {run_id: run_id for run_id in alike})
    return {run_id: " · ".join(said) for run_id, said in told.items()}


def distinctions(reader: Reader, runs: Sequence[Run]) -> dict[str, str]:
    """Of each run what tells it from the others of its title, empty where nothing but its id does.

    That is the method and, among runs of one method, the overrides that not all of them have; of a
    measurement those of the run it measures.
    """
    return {run_id: " · ".join(said[:-1]) for run_id, said in _told(reader, runs).items()}


def _told(reader: Reader, runs: Sequence[Run]) -> dict[str, Words]:
    known = {run.run_id: run for run in runs}
    trained = {run.run_id: trained_run(reader, known, run) for run in runs}

    def methods(alike: Sequence[str]) -> dict[str, str]:
        return {run_id: _method(known[run_id], trained[run_id]) for run_id in alike}

    def overrides(alike: Sequence[str]) -> dict[str, str]:
        asked = {run_id: trained[run_id].overrides for run_id in alike}
        common = set.intersection(*map(set, asked.values()))
        own = {
            i: " ".join(each for each in said if each not in common) for i, said in asked.items()
        }
        return {run_id: words.short(said, TITLE_LETTERS) for run_id, said in own.items()}

    titles = {run.run_id: (words.short(run.title, TITLE_LETTERS),) for run in runs}
    return _further(_further(titles, methods), overrides)


def trained_run(reader: Reader, known: Mapping[str, Run], run: Run) -> Run:
    """The run that a measurement measures, as far as it is there; else the run itself."""
    if run.status.kind == "training":
        return run
    name = run.launch.subject
    return known.get(name) or reader.run(name) or run


def _method(run: Run, trained: Run) -> str:
    return run.method if run is trained else f"measured: {trained.method}"


def _further(
    told: Mapping[str, Words], more: Callable[[Sequence[str]], Mapping[str, str]]
) -> dict[str, Words]:
    """What is said of each run, with something more of those of which the same is said."""
    alike = defaultdict(list)
    for run_id, said in told.items():
        alike[said].append(run_id)
    found = dict(told)
    for said, run_ids in alike.items():
        if len(run_ids) > 1:
            found |= {run_id: (own, *said) for run_id, own in more(run_ids).items() if own}
    return found
