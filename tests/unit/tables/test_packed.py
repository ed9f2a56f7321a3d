"""Packed tables that come from elsewhere: refused whole, or unpacked whole."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from acft.__main__ import main
from acft.errors import DataError
from acft.runs.directory import read_launch
from acft.schema import RunPaths
from acft.tables import packed
from acft.tables.packed import pack, unpack

RUN = "20261129-120000-abcd"
ROOT = Path(__file__).parents[3]


WHOLE = {
    "spec.toml": "title = 'it'",
    "launch.json": json.dumps({"created": 1.0, "working_directory": "/there", "mirror": ["wandb"]}),
    "status.json": json.dumps({"state": "finished"}),
}


def archive(file: Path, changed: dict[str, str] | None = None) -> Path:
    """A packed table of one run, with other content of some files, or more of them."""
    with tarfile.open(file, "w:xz") as tar:
        for name, content in (WHOLE | (changed or {})).items():
            member = tarfile.TarInfo(name if "outside" in name else f"{RUN}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content.encode()))
    return file


def special(file: Path, kind: bytes) -> Path:
    with tarfile.open(file, "w:xz") as tar:
        member = tarfile.TarInfo(f"{RUN}/status.json")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    return file


@pytest.mark.parametrize(
    "name",
    [
        "../outside.txt",
        "/etc/outside.txt",
        f"{RUN}/../../outside.txt",
        f"{RUN}/checkpoints/round-1/../../../outside.txt",
        "checkpoints/round-1/policy.safetensors",
    ],
)
def test_an_archive_with_anything_else_is_refused_and_leaves_nothing(tmp_path, name):
    runs = tmp_path / "runs"
    with pytest.raises(DataError, match="no packed table: it has"):
        unpack(archive(tmp_path / "bad.tar.xz", {name: "text"}), runs)
    assert left_in(runs) == []
    assert not list(tmp_path.rglob("outside*"))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_what_is_no_plain_file_is_refused(tmp_path, kind):
    with pytest.raises(DataError, match=r"no packed table: it has .*status\.json"):
        unpack(special(tmp_path / "bad.tar.xz", kind), tmp_path / "runs")
    assert left_in(tmp_path / "runs") == []


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("status.json", '{"state": "queued"}', "did not finish"),
        ("status.json", "", "did not finish"),
        ("launch.json", "[]", "cannot read"),
    ],
)
def test_a_run_that_somebody_might_start_is_refused_with_all_others(tmp_path, name, content, says):
    runs = tmp_path / "runs"
    with pytest.raises(DataError, match=says):
        unpack(archive(tmp_path / "bad.tar.xz", {name: content}), runs)
    assert left_in(runs) == []


def test_nothing_of_a_run_says_where_to_work_or_whom_to_tell(tmp_path):
    unpack(archive(tmp_path / "good.tar.xz"), tmp_path / "runs")
    launch = read_launch(RunPaths(tmp_path / "runs" / RUN))
    assert (launch.working_directory, launch.mirror) == ("", ())


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "TOTAL_BYTES", 20)
    with pytest.raises(DataError, match=r"launch\.json' it is larger than"):
        unpack(archive(tmp_path / "large.tar.xz"), tmp_path / "runs")
    assert left_in(tmp_path / "runs") == []


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "TOTAL_BYTES", 20)
    monkeypatch.setattr(packed, "HEADER_BYTES", 1 << 20)
    bomb = tmp_path / "bomb.tar.xz"
    with tarfile.open(bomb, "w:xz", format=tarfile.PAX_FORMAT) as made:
        member = tarfile.TarInfo(f"{RUN}/status.json")
        member.pax_headers = {"comment": "a" * (4 << 20)}
        made.addfile(member)
    assert bomb.stat().st_size < 10_000
    with pytest.raises(DataError, match="it is larger than"):
        unpack(bomb, tmp_path / "runs")
    assert left_in(tmp_path / "runs") == []


def left_in(runs: Path) -> list[Path]:
    return list(runs.rglob("*"))


def test_a_cut_or_foreign_file_is_named(tmp_path, capsys):
    whole = archive(tmp_path / "whole.tar.xz").read_bytes()
    for content in (b"", b"not an archive", whole[: len(whole) // 2]):
        (tmp_path / "cut.tar.xz").write_bytes(content)
        with pytest.raises(DataError, match=r"cut\.tar\.xz"):
            unpack(tmp_path / "cut.tar.xz", tmp_path / "runs")
    table = ["table", str(ROOT / "experiments" / "table_a"), "--runs", str(tmp_path / "runs")]
    assert main([*table, "--unpack", str(tmp_path / "absent.tar.xz")]) != 0
    assert "absent.tar.xz" in capsys.readouterr().err
    assert left_in(tmp_path / "runs") == []


def test_what_a_file_of_a_run_only_leads_to_is_not_packed(tmp_path):
    unpack(archive(tmp_path / "packed.tar.xz"), tmp_path / "runs")
    spec = tmp_path / "runs" / RUN / "spec.toml"
    spec.unlink()
    spec.symlink_to(tmp_path / "packed.tar.xz")
    with pytest.raises(OSError, match=r"spec\.toml"):
        pack([RunPaths(spec.parent)], tmp_path / "again.tar.xz")
    assert not (tmp_path / "again.tar.xz").exists()


def test_runs_that_are_there_stay_as_they_are(tmp_path):
    file = archive(tmp_path / "good.tar.xz")
    assert unpack(file, tmp_path / "runs") == [RUN]
    spec = tmp_path / "runs" / RUN / "spec.toml"
    spec.write_text("mine")
    assert unpack(file, tmp_path / "runs") == []
    assert spec.read_text() == "mine"
