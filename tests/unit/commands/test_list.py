"""The list shows every registered name."""

import json

import pytest

from acft.__main__ import main
from acft.commands.list import REGISTRIES, registry


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
    with pytest.raises(SystemExit) as caught:
        main(["list", "nonsense"])
    assert caught.value.code == 2
    assert "scorers" in capsys.readouterr().err
