#!/usr/bin/env python
"""Writes the parts of README.md that follow from the code: the file tree and the tables of names.

``.ci/docs.py`` rewrites them; ``.ci/docs.py --check`` exits 1 when they are out of date.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"

OPENED = ("acft", "tests")
"""Folders whose entries are listed one by one."""

ABOUT = {
    ".ci/": "what `make` and continuous integration call; `.ci/run` is every check",
    ".gitignore": "",
    ".pre-commit-config.yaml": "the checks of `make lint`, before each commit",
    "CHANGELOG.md": "what changed for users",
    "LICENSE": "Apache-2.0",
    "Makefile": "`make help` lists what it does",
    "README.md": "this file",
    "SECURITY.md": "threats, and the test that attacks each defence",
    "assets/": "texts written for this project and data made by running it",
    "benchmarks/": "measurements of speed and memory, one command each",
    "constraints.txt": "the versions everything was tested with",
    "experiments/": "one TOML file for each experiment, and LOG.md, failures included",
    "pyproject.toml": "dependencies and the settings of every tool",
    "requirements.txt": "what a Space installs",
    "tests/": "`make test` runs all; browser, slow and GPU tests on request",
    "tests/device/": "a device beside the CPU that is as strict as a GPU",
    "tests/equivalence/": "settings that must agree",
    "tests/faults/": "kills, torn files, full disks, jumped clocks",
    "tests/golden/": "values derived by hand or recorded",
    "tests/laws/": "what every registered object must obey",
    "tests/mutation/": "wrong versions of the equations, each caught by a test",
    "tests/properties/": "identities on random toy worlds",
    "tests/store/": "the database: migrations, ingest, queries",
    "tests/ui/": "the pages, with and without a browser",
    "tests/unit/": "one behaviour each; mirrors acft/",
}
"""What the tree says of entries that have no docstring."""


def main(arguments: list[str]) -> int:
    """0 when the README is, or was made, up to date."""
    old = README.read_text(encoding="utf-8")
    new = replaced(replaced(old, "tree", tree()), "names", names())
    if "--check" in arguments:
        return int(old != new)
    README.write_text(new, encoding="utf-8")
    return 0


def replaced(text: str, section: str, content: str) -> str:
    """``text`` with everything between the section's two markers replaced."""
    start, end = f"<!-- {section} -->", f"<!-- /{section} -->"
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    return f"{before}{start}\n{content}\n{end}{after}"


def tree() -> str:
    """A code block with one line for each entry."""
    lines = [f"{entry:<28}{about}".rstrip() for entry, about in entries()]
    return "\n".join(["```text", *lines, "```"])


def entries() -> Iterator[tuple[str, str]]:
    """Indented name and description: folders first, then files, each sorted."""
    paths = tracked()
    for top in _sorted({_entry(path, 0) for path in paths}):
        yield top, describe(top)
        if top.rstrip("/") in OPENED:
            inside = {_entry(path, 1) for path in paths if path.startswith(top)}
            for child in _sorted(inside - {f"{top}__init__.py"}):
                yield "    " + child.removeprefix(top), describe(child)


def tracked() -> list[str]:
    """Files that git knows."""
    command = ["git", "ls-files"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return result.stdout.splitlines()


def _entry(path: str, depth: int) -> str:
    """The part of a path that the tree shows; folders end with a slash."""
    parts = path.split("/")
    return path if len(parts) <= depth + 1 else "/".join(parts[: depth + 1]) + "/"


def _sorted(names: set[str]) -> list[str]:
    return sorted(names, key=lambda name: (not name.endswith("/"), name))


def describe(entry: str) -> str:
    """The description by hand, else the first line of the docstring."""
    if entry in ABOUT:
        return ABOUT[entry]
    path = ROOT / entry / "__init__.py" if entry.endswith("/") else ROOT / entry
    if path.suffix != ".py" or not path.exists():
        raise SystemExit(f"say in .ci/docs.py what {entry!r} is")
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].rstrip(".")


def names() -> str:
    """One table for each kind of name."""
    from acft.commands import list as listing  # noqa: PLC0415

    parts: list[str] = []
    for kind in listing.REGISTRIES:
        parts += [f"| {kind} | |", "|---|---|"]
        parts += [
            f"| `{entry['name']}` | {_cell(entry['summary'])} |" for entry in listing.entries(kind)
        ]
        parts.append("")
    return "\n".join(parts)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").rstrip(".")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv[1:]))
