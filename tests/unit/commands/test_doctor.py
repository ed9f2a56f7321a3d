"""The doctor names what is wrong and what to do; notes are no failures."""

import json
from importlib import metadata
from types import SimpleNamespace

import pytest

from acft.__main__ import main
from acft.assets import cache_folder
from acft.commands import doctor
from acft.metrics.base import METRICS


@pytest.fixture(autouse=True)
def _away_from_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def found(capsys, *arguments: str) -> dict[str, list[dict]]:
    """Findings by what they are about."""
    main(["doctor", "--json", *arguments])
    result: dict[str, list[dict]] = {}
    for finding in json.loads(capsys.readouterr().out):
        result.setdefault(finding["about"], []).append(finding)
    return result


def test_empty_cache_is_a_problem_with_its_remedy(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "nothing"))
    assert main(["doctor"]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(" BAD")]
    assert any("SmolLM2" in line and "make assets" in line for line in lines)


@pytest.mark.assets
def test_this_environment_has_no_problem_with_packages_and_assets(capsys):
    findings = found(capsys)
    states = [f["state"] for about in ("python", "packages", "asset") for f in findings[about]]
    assert "problem" not in states


def test_offline_mode_is_told(capsys):
    (hub,) = found(capsys)["hub"]
    assert (hub["state"], "HF_HUB_OFFLINE" in hub["text"]) == ("note", True)


@pytest.mark.parametrize("endpoint", ["hub.example", "http://["])
def test_an_address_of_a_hub_that_is_none_is_told(monkeypatch, capsys, endpoint):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    (hub,) = found(capsys)["hub"]
    assert hub["state"] == "problem"
    assert f"HF_ENDPOINT = {endpoint!r} is no address" in hub["text"]


def test_version_below_the_floor_is_a_problem(monkeypatch, capsys):
    monkeypatch.setattr(metadata, "requires", lambda _: ["gradio>=99", "no-such-package>=1"])
    texts = [finding["text"] for finding in found(capsys)["packages"]]
    assert "gradio" in texts[0]
    assert ">=99" in texts[0]
    assert "no-such-package is missing" in texts[1]


def test_runs_folder_that_others_may_write_is_a_problem(tmp_path, capsys):
    runs = tmp_path / "shared"
    runs.mkdir()
    runs.chmod(0o777)
    (finding,) = found(capsys, "--runs", str(runs))["runs directory"]
    assert finding["state"] == "problem"
    assert "chmod go-w" in finding["text"]


def test_folder_that_cannot_be_written_is_a_problem(monkeypatch, capsys):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    assert [f["state"] for f in found(capsys)["runs directory"]] == ["problem"]


def test_little_disk_is_a_note(monkeypatch, capsys):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    assert [f["state"] for f in found(capsys)["runs directory"]] == ["note"]


@pytest.mark.parametrize(
    ("name", "value"), [("GRADIO_SERVER_NAME", "0.0.0.0"), ("GRADIO_SHARE", "True")]
)
def test_environment_that_exposes_the_server_is_a_problem(monkeypatch, capsys, name, value):
    monkeypatch.setenv(name, value)
    assert any(name in f["text"] and f["state"] == "problem" for f in found(capsys)["exposure"])


def test_cache_that_does_not_exist_yet_is_fine(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "a" / "b"))
    (finding,) = found(capsys)["asset cache"]
    assert finding["state"] == "ok"
    assert not cache_folder().exists()


def test_a_file_that_adds_a_name_and_cannot_be_loaded_is_a_problem(monkeypatch, capsys):
    monkeypatch.setattr(METRICS, "problems", lambda: ["acft.metrics.own is not loaded: why"])
    (name,) = found(capsys)["names"]
    assert name["state"] == "problem"
    assert name["text"] == "acft.metrics.own is not loaded: why"
