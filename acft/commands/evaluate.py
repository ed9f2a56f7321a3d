"""Measure a run's policy, or any model, with registered suites."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from acft.commands._options import add_json, add_runs_dir, add_set

if TYPE_CHECKING:
    from acft.schema import RunPaths

DEFAULT_SUITES = ["rtp", "perplexity"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds whom and what to measure."""
    parser.add_argument("subject", metavar="ID|MODEL", help="run id, or a model as in [model]")
    parser.add_argument(
        "--suite", action="append", default=[], metavar="NAME",
        help="registered suite (see ``acft list suites``); repeatable (default: rtp, perplexity)",
    )  # fmt: skip
    parser.add_argument(
        "--control", default="", metavar="ID", help="run that a change must exceed (kl_weight = 0)"
    )
    add_set(parser)
    parser.add_argument("--background", action="store_true", help="queue it instead of waiting")
    add_runs_dir(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code of the evaluation, which is a run of its own; 0 when it is only queued."""
    from acft.commands._display import do_here
    from acft.commands._subject import check_subject
    from acft.methods.evaluate import EvaluateSettings, left_out
    from acft.runs.detached import ensure_supervisor
    from acft.runs.launcher import create_here, launch
    from acft.runs.measure import measurement

    suites = args.suite or DEFAULT_SUITES
    wanted = measurement(args.runs, args.subject, suites, args.set, args.control)
    planned = wanted.spec
    check_subject(args.runs, args.subject, planned.settings.model)
    if isinstance(planned.method_settings, EvaluateSettings):  # unless --set names another method
        for sentence in left_out(planned.method_settings, planned.settings):
            print(sentence, file=sys.stderr)
    names = {"experiment": wanted.experiment, "subject": wanted.subject}
    if args.background:
        run_id = launch(args.runs, wanted.text, wanted.overrides, **names, where=args.subject)
        supervisor = ensure_supervisor(args.runs)
        queued = {"run_ids": [run_id], "supervisor": supervisor}
        print(json.dumps(queued) if args.json else f"{run_id} queued; {supervisor} starts it")
        return 0
    spec, made = wanted.checked(), []

    def begin() -> "RunPaths":
        made.append(create_here(args.runs, spec, **names))
        return made[0]

    code = do_here(begin, spec)
    for paths in made if args.json else ():  # of several processes, the first one's
        print(json.dumps(_record(paths), indent=2))
    return code


def _record(paths: "RunPaths") -> dict[str, Any]:
    """The evaluation's id, how it ended, and everything it measured."""
    from dataclasses import asdict

    from acft.eventlog import effective, read_events
    from acft.events import Evaluated
    from acft.runs.directory import read_status

    status = read_status(paths)
    events = [entry.event for entry in effective(read_events(paths.events))]
    return {
        "run_id": paths.root.name,
        "state": status.state,
        "failure": status.failure,
        "message": status.message,
        "results": [asdict(event) for event in events if isinstance(event, Evaluated)],
    }
