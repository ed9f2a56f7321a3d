"""The assets command obtains and converts, or only looks."""

import pytest

from acft.__main__ import main
from acft.commands import assets as command


def test_check_obtains_nothing_and_tells_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    assert main(["assets", "--check"]) == 1
    assert "missing" in capsys.readouterr().out
    assert not (tmp_path / "cache").exists()


def test_packages_come_before_the_conversion(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    done: list[str] = []
    monkeypatch.setattr(command, "ensure_assets", lambda _, **__: done.append("packages"))
    monkeypatch.setattr(command, "ensure_models", lambda _: done.append("models"))
    assert main(["assets"]) == 1  # nothing came, so something is missing
    assert done == ["packages", "models"]


@pytest.mark.assets
def test_second_time_changes_nothing(capsys):
    assert main(["assets"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("assets are ready")
