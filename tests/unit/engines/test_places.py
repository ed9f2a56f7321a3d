"""Where a server is: said on this machine, never by a browser."""

import pytest

from acft.engines.http import parse_address
from acft.engines.places import address_of, folder_of, refuse_places
from acft.errors import ConfigError
from acft.inference import settings as desk
from acft.inference.server import Session
from acft.runs.spec import parse_spec
from acft.settings import EngineSettings, RunSettings

ELSEWHERE = '[engine]\nkind = "vllm"\naddress = "http://10.0.0.1:80"\n'
FOLDER = '[engine]\nkind = "vllm"\nfolder = "somewhere"\n'


@pytest.mark.parametrize(("text", "name"), [(ELSEWHERE, "address"), (FOLDER, "folder")])
def test_an_address_from_the_browser_is_refused_by_check_and_launch(
    tmp_path, monkeypatch, text, name
):
    monkeypatch.setenv("ACFT_ENGINE_ADDRESS", "http://127.0.0.1:9")
    session = Session("cpu")
    found = desk.check(session, text)
    assert len(found) == 1
    assert found[0].startswith(f"[engine] {name}: not taken from the browser")
    with pytest.raises(ConfigError, match="not taken from the browser"):
        desk.launch(session, str(tmp_path), text, "r1")
    assert not list(tmp_path.iterdir())


def test_an_address_in_a_file_on_disk_is_taken():
    assert parse_spec(ELSEWHERE).settings.engine.address == "http://10.0.0.1:80"


def test_without_an_address_in_the_settings_the_server_s_own_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ENGINE_ADDRESS", "http://127.0.0.1:9")
    monkeypatch.setenv("ACFT_ENGINE_FOLDER", str(tmp_path))
    settings = EngineSettings(kind="vllm")
    refuse_places(RunSettings(engine=settings))
    assert address_of(settings) == "http://127.0.0.1:9"
    assert folder_of(settings) == tmp_path


def test_a_server_without_an_address_is_refused(monkeypatch):
    monkeypatch.delenv("ACFT_ENGINE_ADDRESS", raising=False)
    with pytest.raises(ConfigError, match="address is empty"):
        address_of(EngineSettings(kind="vllm"))


def test_an_unknown_engine_is_told_with_the_other_problems():
    with pytest.raises(ConfigError, match="did you mean 'vllm'") as caught:
        parse_spec('[engine]\nkind = "vlm"\n[method]\nname = "acft"\nkl_wight = 1.0\n')
    assert "kl_weight" in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:80",
        "ftp://host",
        "http://",
        "http://a:b@host",
        "http://host?x=1",
        "http://h:x",
        "http://[::1",
    ],
)
def test_other_forms_of_address_are_refused(address):
    with pytest.raises(ConfigError, match="not of the form http"):
        parse_address(address)


def test_the_protocol_s_version_may_end_an_address():
    assert parse_address("https://host:81/models/v1/").path == "/models"
