"""Tag a run, note something about it, or take it out of the list."""

import argparse

from acft.commands._options import add_run_id, add_runs_dir
from acft.commands._printable import printable


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the run and its labels."""
    add_run_id(parser)
    parser.add_argument(
        "--tag", action="append", default=[], metavar="TAG", help="add a tag; repeatable"
    )
    parser.add_argument(
        "--untag", action="append", default=[], metavar="TAG", help="remove a tag; repeatable"
    )
    parser.add_argument("--note", metavar="TEXT", help="replace the note; empty removes it")
    archive = parser.add_mutually_exclusive_group()
    archive.add_argument(
        "--archive", action="store_true", default=None, dest="archived",
        help="leave it out of ``acft runs``, nothing is deleted",
    )  # fmt: skip
    archive.add_argument(
        "--unarchive", action="store_false", default=None, dest="archived", help="list it again"
    )
    add_runs_dir(parser)


def run(args: argparse.Namespace) -> None:
    """Prints the labels as they are then; without changes as they are."""
    from acft.errors import ConfigError, RunError
    from acft.runs.directory import find_run, read_labels
    from acft.runs.labels import label

    if not all(map(str.strip, args.tag)):
        raise ConfigError("--tag '' is empty; give a word")
    before = read_labels(find_run(args.runs, args.run_id))
    missing = sorted(set(args.untag) - set(before.tags))
    if missing:
        has = ", ".join(before.tags) or "none"
        raise RunError(f"run {args.run_id} has no tag {missing[0]!r} (tags: {has})")
    tags = sorted({*before.tags, *args.tag} - set(args.untag))
    after = label(args.runs, args.run_id, tags=tags, notes=args.note, archived=args.archived)
    print(f"tags: {printable(', '.join(after.tags)) or 'none'}")
    print(f"note: {printable(after.notes) or 'none'}")
    print(f"archived: {'yes' if after.archived else 'no'}")
