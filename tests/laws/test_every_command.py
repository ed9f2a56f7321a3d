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
    code = main(sys.argv[1:])
except SystemExit as leaving:
    code = leaving.code
print(json.dumps([code, [name for name in {heavy} if name in sys.modules]]), file=sys.stderr)
"""


def ask(*arguments: str) -> tuple[str, str, int, list[str]]:
    """What a command prints and says, its exit code, and heavy packages that were loaded for it."""
    code = ASK.format(heavy=HEAVY)
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    said, _, last = result.stderr.rstrip("\n").rpartition("\n")
    return result.stdout, said, *json.loads(last)


def ask_for_help(*arguments: str) -> tuple[str, int, list[str]]:
    """What ``--help`` prints, its exit code, and heavy packages that were loaded for it."""
    text, said, code, loaded = ask(*arguments, "--help")
    assert not said
    return text, code, loaded


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


@pytest.mark.parametrize("command", ["train", "launch"])
def test_wrong_settings_are_told_all_at_once_before_torch_is_loaded(tmp_path, command):
    config = tmp_path / "wrong.toml"
    config.write_text("[optimizer]\nlrr = 1\n")
    changes = ("schedule.rounds=many", "corpus.0.source=sotuu", "constraint.0.kind=lenght")
    options = [part for change in changes for part in ("--set", change)]
    _, said, code, loaded = ask(command, str(config), "--runs", str(tmp_path / "runs"), *options)
    assert code == 2
    assert not {"torch", "transformers", "peft"} & set(loaded)
    for part in ("did you mean 'lr'?", "rounds = 'many'", "mean 'sotu'?", "mean 'length'?"):
        assert part in said


@pytest.mark.parametrize("kind", ["constraints", "scorers", "corpora"])
def test_names_that_need_no_torch_are_listed_without_it(kind):
    text, _, code, loaded = ask("list", kind)
    assert text.startswith(f"{kind}\n")
    assert (code, [name for name in loaded if name in ("torch", "transformers", "peft")]) == (0, [])


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
