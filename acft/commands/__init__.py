"""Subcommands of ``acft``: one file each, found by scanning this folder.

A command's module is named like the command. The first line of its docstring is the help text; it
is read without importing the module. The module defines

- ``configure(parser: argparse.ArgumentParser) -> None``, which adds arguments, and
- ``run(args: argparse.Namespace) -> int | None``, which does the work; None means exit code 0.

Anything slow to import is imported inside ``run``. Problems of the user are raised as
``AcftError``.
"""
