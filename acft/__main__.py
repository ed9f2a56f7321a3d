"""The command line: finds the subcommand, runs it, turns errors into sentence and exit code."""

import argparse
import ast
import errno
import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from acft import __version__
from acft.errors import AcftError
from acft.registry import did_you_mean

COMMANDS = Path(__file__).parent / "commands"
USER_ERROR = 2
INTERRUPTED = 130
PLACES = (PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
"""Errors of files and folders that are not what a command was told they are."""
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NO_PLACE = (*NO_SPACE, errno.EROFS)
"""Numbers of errors of disks that take nothing."""


def main(argv: list[str] | None = None) -> int:
    """The process's exit code: 0 done, 1 failed, 2 wrong use or input, 130 interrupted."""
    arguments = sys.argv[1:] if argv is None else argv
    parser, parsers, commands = _parsers(arguments)
    args, unknown = parser.parse_known_args(arguments)
    if args.command in parsers:
        unknown = _without_late_word(unknown, parsers[args.command], args)
    if unknown:
        # argparse itself would tell the usage of ``acft`` alone
        _refuse(unknown, parsers.get(args.command, parser))
    if args.command is None:
        parser.print_help()
        return USER_ERROR
    try:
        return commands[args.command].run(args) or 0
    except AcftError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (``acft runs | head``); nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if not isinstance(error, PLACES) and error.errno not in NO_PLACE:
            raise
        way_out = "free space" if error.errno in NO_SPACE else "change that"
        print(f"error: {error}; {way_out}, or name another place", file=sys.stderr)
        return USER_ERROR


def _without_late_word(
    unknown: list[str], parser: argparse.ArgumentParser, args: argparse.Namespace
) -> list[str]:
    """What is left of unknown arguments when a word behind an option has gone where it belongs.

    To argparse, ``acft export ID --oracle DIR`` has left ``DIR`` out at the first option.
    """
    for action in parser._positionals._group_actions:
        is_open = action.nargs == "?" and getattr(args, action.dest) is action.default
        if is_open and unknown and not unknown[0].startswith("-"):
            convert: Any = action.type or str
            setattr(args, action.dest, convert(unknown[0]))
            unknown = unknown[1:]
    return unknown


def _refuse(unknown: list[str], parser: argparse.ArgumentParser) -> NoReturn:
    """Ends with the usage of a command that was given arguments it does not have."""
    near = did_you_mean(unknown[0].partition("=")[0], [*parser._option_string_actions])
    parser.error(f"unrecognized arguments: {' '.join(unknown)}{near}")


def _parsers(
    arguments: list[str],
) -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser], dict[str, Any]]:
    """The parser and those of the subcommands, with arguments only for the one asked for."""
    parser = argparse.ArgumentParser(
        prog="acft", description="Attribute-controlled fine-tuning of causal language models."
    )
    parser.add_argument("--version", action="version", version=f"acft {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    modules = {}
    for path in sorted(COMMANDS.glob("[a-z]*.py")):
        summary = _summary(path)
        subparser = subparsers.add_parser(path.stem, help=summary, description=summary)
        if path.stem == chosen:
            modules[path.stem] = importlib.import_module(f"acft.commands.{path.stem}")
            modules[path.stem].configure(subparser)
    return parser, subparsers.choices, modules


def _summary(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    # Percent signs are placeholders to argparse.
    return docstring.partition("\n")[0].rstrip(".").replace("%", "%%")


if __name__ == "__main__":
    sys.exit(main())
