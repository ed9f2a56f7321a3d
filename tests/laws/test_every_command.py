"""Every subcommand explains itself at once, without loading what it would need to work."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import acft.commands

FOLDER = Path(acft.commands.__file__).parent
COMMANDS = sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))
HEAVY = ("torch", "transformers", "peft", "gradio", "plotly", "duckdb", "sklearn", "pandas")
HELP_SECONDS = 0.5

ASK = """
import json, sys
from acft.__main__ import main
try:
    main(sys.argv[1:])
except SystemExit as leaving:
    code = leaving.code
print(json.dumps([code, [name for name in {heavy} if name in sys.modules]]), file=sys.stderr)
"""


def ask_for_help(*arguments: str) -> tuple[str, int, list[str]]:
    """What ``--help`` prints, its exit code, and heavy packages that were loaded for it."""
    code = ASK.format(heavy=HEAVY)
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return result.stdout, *json.loads(result.stderr)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_loads_nothing_heavy(name):
    text, code, loaded = ask_for_help(name)
    assert text.startswith(f"usage: acft {name}")
    assert (code, loaded) == (0, [])


def test_overview_names_every_command_and_loads_nothing_heavy():
    text, code, loaded = ask_for_help()
    assert (code, loaded) == (0, [])
    assert set(COMMANDS) <= set(text.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_first_line_says_what_it_does(name):
    docstring = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8")))
    assert docstring
    assert docstring.partition("\n")[0].endswith(".")


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="needs the processor time of one child")
def test_overview_takes_less_than_half_a_second_of_processor_time():
    def seconds() -> float:
        child = subprocess.Popen(
            [sys.executable, "-m", "acft", "--help"], stdout=subprocess.DEVNULL
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0
        return used.ru_utime + used.ru_stime

    # the first may compile; a busy machine makes single ones slower
    assert min(seconds() for _ in range(3)) < HELP_SECONDS
