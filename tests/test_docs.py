"""What is written down is true: README, pins, docstrings, sizes, and no trace of this machine."""

import argparse
import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path
from statistics import median

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from acft.commands.list import REGISTRIES, entries, registry
from acft.config import Config
from acft.runs.spec import load_spec, parse_spec
from acft.ui.options import configure

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODULES = sorted((ROOT / "acft").rglob("*.py"))

LONGEST_FILE = 400
LONGEST_FUNCTION = 60
MEDIAN_FUNCTION = 12

SPACE_FIELDS = {
    "title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file",
    "pinned", "license", "short_description", "suggested_hardware", "models", "datasets", "tags",
    "thumbnail", "header", "fullWidth", "startup_duration_timeout", "preload_from_hub",
    "disable_embedding",
}  # fmt: skip
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


@cache
def tracked() -> list[Path]:
    """Files that git knows and that are there."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def pins(name: str) -> dict[str, str]:
    """Version by name of a file of pins."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", line) for line in lines), f"odd line in {name}"
    return {line.split("==")[0]: line.split("==")[1] for line in lines}


def front_matter() -> dict:
    """The settings of the Space at the top of the README."""
    return yaml.safe_load(README.split("---\n")[1])


def test_tree_and_tables_follow_from_the_code():
    tracked()
    checked = subprocess.run([sys.executable, ".ci/docs.py", "--check"], cwd=ROOT, check=False)
    assert checked.returncode == 0, "run: .venv/bin/python .ci/docs.py"


def test_space_settings_are_known_and_complete():
    space = front_matter()
    assert set(space) <= SPACE_FIELDS
    assert {"title", "sdk", "sdk_version", "python_version", "app_file", "license"} <= set(space)
    assert {space["colorFrom"], space["colorTo"]} <= COLOURS
    assert len(space["short_description"]) <= 60
    assert (space["sdk"], space["license"]) == ("gradio", PROJECT["license"].lower())
    assert (ROOT / space["app_file"]).is_file()


def test_space_runs_the_versions_that_were_tested():
    space = front_matter()
    assert space["sdk_version"] == pins("constraints.txt")["gradio"]
    assert isinstance(space["python_version"], str), "quote it, else 3.10 becomes 3.1"
    assert f">={space['python_version']}" == PROJECT["requires-python"]


def test_requirements_are_the_dependencies_at_the_tested_versions():
    names = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    tested = pins("constraints.txt")
    assert pins("requirements.txt") == {name: tested[name] for name in names}


def test_tested_versions_satisfy_every_stated_dependency():
    extras = PROJECT["optional-dependencies"]
    stated = map(Requirement, PROJECT["dependencies"] + extras["dev"])
    tested = pins("constraints.txt")
    assert not [
        str(item) for item in stated if tested[canonicalize_name(item.name)] not in item.specifier
    ]


def test_every_imported_package_is_a_stated_dependency():
    extras = PROJECT["optional-dependencies"].values()
    stated = {
        canonicalize_name(Requirement(text).name)
        for text in [*PROJECT["dependencies"], *(text for extra in extras for text in extra)]
    }
    # optional packages need not be installed here
    providers = {**metadata.packages_distributions(), "pynvml": ["nvidia-ml-py"]}
    unstated = {
        module
        for module in imported_packages()
        if not {canonicalize_name(name) for name in providers.get(module, [module])} & stated
    }
    assert not unstated


def imported_packages() -> set[str]:
    """Top-level names that acft imports and that are neither its own nor Python's."""
    found: set[str] = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return (
        found - set(sys.stdlib_module_names) - {"acft", "pydantic_core"}
    )  # pydantic pins its core


@pytest.mark.parametrize("kind", list(REGISTRIES))
def test_every_registered_name_says_what_it_is(kind):
    assert not [entry["name"] for entry in entries(kind) if not entry["summary"]]


@pytest.mark.parametrize("kind", ["methods", "constraints"])
def test_every_setting_of_a_registered_object_says_what_it_does(kind):
    silent = []
    for name, item in registry(kind).items():
        settings = getattr(item, "settings_type", item)
        assert issubclass(settings, Config)
        silent += [f"{name}.{key}" for key, f in settings.model_fields.items() if not f.description]
    assert not silent


def test_every_equation_says_its_source():
    tree = ast.parse((ROOT / "acft" / "objective.py").read_text(encoding="utf-8"))
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name[0] != "_"]
    bare = {f.name for f in functions if "Source:" not in (ast.get_docstring(f) or "")}
    assert bare <= {"align", "token_mean", "upcast"}, "only bookkeeping has no source"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments").glob("*.toml")), ids=lambda p: p.stem
)
def test_every_experiment_is_possible(path):
    assert load_spec(path).settings.title, "say in a title what it is for"


def test_settings_shown_in_the_readme_are_possible():
    parse_spec(README.split("```toml\n")[1].split("```")[0])


def test_functions_named_beside_the_equations_exist():
    index = README.split("## The paper, equation by equation")[1].split("\n## ")[0]
    named = re.findall(r"`(\w+)\.(\w+)`", index)
    assert named
    for module, function in named:
        assert callable(getattr(importlib.import_module(f"acft.{module}"), function))


def test_commands_in_the_readme_exist():
    code = re.findall(r"^```bash\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    code += re.findall(r"(?<!`)`([^`\n]+)`(?!`)", README)
    named = set(re.findall(r"\bacft ([a-z]+)\b", "\n".join(code)))
    assert named
    missing = {name for name in named if not (ROOT / "acft" / "commands" / f"{name}.py").exists()}
    assert not missing


@pytest.mark.parametrize("name", ["README.md", "SECURITY.md", "CHANGELOG.md"])
def test_local_links_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert not [target for target in targets if not (ROOT / target).exists()]


def test_every_defence_names_tests_that_exist():
    table = re.findall(r"^\| \d+ \|.*", (ROOT / "SECURITY.md").read_text("utf-8"), re.MULTILINE)
    assert len(table) == 20
    for row in table:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row)
        assert named, row
        for path, name in named:
            assert f"def {name}" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"


def test_no_file_tells_where_it_was_made():
    # character classes keep the patterns from matching themselves
    places = re.compile(r"/(?:work|root|home|tmp)/\w|pypi[.]org|python[h]osted|npm[j]s[.]|[.]whl#")
    found = {}
    for path in tracked():
        if path.suffix in {".png", ".parquet", ".safetensors", ".duckdb"} or path.name == "LICENSE":
            continue
        match = places.search(path.read_text(encoding="utf-8", errors="replace"))
        if match:
            found[str(path.relative_to(ROOT))] = match.group()
    assert not found


def test_files_and_functions_stay_short():
    lengths: list[int] = []
    long: list[str] = []
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > LONGEST_FILE:
            long.append(f"{path.name}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno:
                lengths.append(node.end_lineno - node.lineno + 1)
                if lengths[-1] > LONGEST_FUNCTION:
                    long.append(f"{path.name}: {node.name} has {lengths[-1]} lines")
    assert not long
    assert median(lengths) <= MEDIAN_FUNCTION


@pytest.mark.parametrize("name", ["README.md", "experiments/SCALING.md"])
def test_every_shell_example_can_be_parsed(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    examples = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    assert examples
    for example in examples:
        parsed = subprocess.run(
            ["bash", "-n"], input=example, capture_output=True, text=True, check=False
        )
        assert parsed.returncode == 0, f"{example}\n{parsed.stderr}"


def test_every_variable_of_the_environment_stands_in_the_readme():
    read = [*MODULES, ROOT / "Makefile", *(ROOT / "tests").rglob("*.py")]
    names = {
        name for path in read for name in re.findall(r"ACFT_[A-Z_]+[A-Z]", path.read_text("utf-8"))
    }
    told = set(re.findall(r"^\| `(ACFT_\w+)` \|", README, re.MULTILINE))
    assert told == names


@pytest.mark.parametrize("screen", ["", ":0"])
def test_what_make_run_starts_is_a_command_that_there_is(screen):
    made = subprocess.run(
        ["make", "--dry-run", "run"], cwd=ROOT, check=True, capture_output=True, text=True,
        env=os.environ | {"DISPLAY": screen, "WAYLAND_DISPLAY": ""},
    ).stdout  # fmt: skip
    (started,) = re.findall(r"-m acft serve(.*)", made)
    parser = argparse.ArgumentParser()
    configure(parser)
    arguments = parser.parse_args(started.split())
    assert arguments.no_browser == (not screen and sys.platform != "darwin")
