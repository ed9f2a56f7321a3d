"""Measure a run's policy, or any model, with registered suites."""

import argparse
import sys

from acft.commands._options import add_runs_dir, add_set

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
        print(f"{run_id} queued; {ensure_supervisor(args.runs)} starts it")
        return 0
    spec = wanted.checked()
    return do_here(lambda: create_here(args.runs, spec, **names), spec)
