"""The list shows every registered name."""

import json

import pytest

from acft.__main__ import main
from acft.commands.list import REGISTRIES, entries, registry, sections, settings_of
from acft.methods.base import METHODS, Method
from acft.metrics.base import METRICS


@pytest.mark.parametrize("kind", REGISTRIES)
def test_every_registered_name_is_listed(kind, capsys):
    assert main(["list", kind, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed[kind]] == registry(kind).names()


def test_text_shows_name_and_summary(capsys):
    assert main(["list", "metrics"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "metrics"
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines[1:])


def test_name_that_cannot_be_used_here_says_why(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path))
    main(["list", "scorers"])
    (line,) = [s for s in capsys.readouterr().out.splitlines() if s.split()[0] == "jigsaw_tcc"]
    assert "[not here: " in line


def test_unknown_kind_is_wrong_use(capsys):
    assert main(["list", "scorrers"]) == 2
    said = capsys.readouterr().err
    assert "did you mean 'scorer" in said
    assert "metrics" in said


@pytest.mark.parametrize("kind", REGISTRIES)
def test_every_registered_name_has_its_settings_listed(kind, capsys):
    for name in registry(kind).names():
        assert main(["list", name]) == 0
        assert f"{name} ({kind})" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("name", ["distinct_1", "length", "optimizer"])
def test_what_a_name_means_is_listed_above_its_settings(name, capsys):
    assert main(["list", name]) == 0
    head, summary, *_ = capsys.readouterr().out.splitlines()
    kind = head.removeprefix(f"{name} (").removesuffix(")")
    (entry,) = [entry for entry in entries(kind) if entry["name"] == name]
    assert summary == f"  {entry['summary']}"
    assert entry["summary"]


def test_a_setting_is_listed_with_type_default_and_meaning(capsys):
    assert main(["list", "pattern"]) == 0
    printed = capsys.readouterr().out
    assert "\n  pattern: str, must be given\n" in printed
    assert "\n  ignore_case: bool = True\n      Upper and lower case are the same.\n" in printed
    assert main(["list", "acft", "--json"]) == 0
    settings = {one["name"]: one for one in json.loads(capsys.readouterr().out)["methods"]}
    assert settings["delta"]["default"] == "1.0"
    assert settings["delta"]["help"].startswith("Satisfaction demanded of every prompt")


def test_settings_of_every_table_of_a_settings_file_are_listed(capsys):
    assert main(["list", "sections"]) == 0
    assert "optimizer   Training of the policy." in capsys.readouterr().out
    for name, holder in sections().items():
        assert main(["list", name]) == 0
        printed = capsys.readouterr().out
        assert f"{name} (sections)" in printed
        own = set(holder.model_fields) - (
            {*sections(), "constraint", "method"} if name == "run" else set()
        )
        assert all(f"\n  {field}: " in printed for field in own)
    assert main(["list", "prompts", "--json"]) == 0
    both = json.loads(capsys.readouterr().out)
    assert {one["name"] for one in both["sections"]} == {"source", "text_field", "limit"}
    assert any(one["name"] == "realtoxicityprompts" for one in both["prompts"])


def test_types_are_told_without_the_patterns_of_their_parts():
    tasks, _, local = settings_of("harness")["suites"][:3]
    assert (tasks["type"], local["type"]) == ("tuple[str, ...]", "dict[str, str]")


def test_a_file_that_is_not_there_is_told_behind_the_names(monkeypatch, capsys):
    monkeypatch.setattr(METRICS, "problems", lambda: ["acft.metrics.own is not loaded: why"])
    assert main(["list"]) == 0
    assert capsys.readouterr().out.endswith("\n[!] acft.metrics.own is not loaded: why\n")
    assert main(["list", "scorers"]) == 0
    assert "[!]" not in capsys.readouterr().out


def test_what_its_author_says_nothing_of_has_no_summary(monkeypatch, capsys):
    method = Method(METHODS.get("sft").settings_type, lambda *_: iter(()))
    monkeypatch.setitem(METHODS._items, "own", method)
    assert main(["list", "methods", "--json"]) == 0
    (own,) = [e for e in json.loads(capsys.readouterr().out)["methods"] if e["name"] == "own"]
    assert own["summary"] == ""
