"""What a Space obtains beside serving."""

import sys

import pytest

from acft.inference import obtaining
from acft.inference.obtaining import Obtaining


@pytest.fixture
def obtained(monkeypatch):
    """One that begins, with a program of the test in place of the one that obtains."""

    def begin(program: str) -> Obtaining:
        monkeypatch.setattr(obtaining, "COMMAND", (sys.executable, "-c", program))
        found = Obtaining()
        found.start()
        return found

    return begin


def test_nothing_is_started_where_everything_is_there(monkeypatch, obtained):
    monkeypatch.setattr(obtaining, "is_ready", lambda: True)
    found = obtained("raise SystemExit('started')")
    assert not found.is_going
    found.close()


def test_it_goes_until_its_process_ends_and_is_ended_with_the_server(monkeypatch, obtained):
    monkeypatch.setattr(obtaining, "is_ready", lambda: False)
    found = obtained("input()")  # its standard input is closed
    assert found.process is not None
    found.process.wait(60)
    assert not found.is_going
    endless = obtained("import time\nwhile True: time.sleep(60)")
    assert endless.is_going
    endless.close()
    assert not endless.is_going


def test_it_obtains_what_is_missing_and_names_it(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(obtaining, "is_ready", lambda: False)
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    found = Obtaining()
    found.start()
    assert found.process is not None
    assert found.process.wait(120) != 0
    said = capfd.readouterr()
    assert "obtaining" in said.out + said.err
    found.close()
