"""Packed tables that come from elsewhere: refused whole, or unpacked whole."""

import io
import tarfile
from pathlib import Path

import pytest

from acft.__main__ import main
from acft.errors import DataError
from acft.tables import packed
from acft.tables.packed import unpack

RUN = "20261129-120000-abcd"
ROOT = Path(__file__).parents[3]


def archive(file: Path, name: str, kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(file, "w:xz") as tar:
        for member_name in (f"{RUN}/spec.toml", name):
            member = tarfile.TarInfo(member_name)
            member.type = kind if member_name == name else tarfile.REGTYPE
            member.size, member.linkname = (5, "") if member.isreg() else (0, "/etc/passwd")
            tar.addfile(member, io.BytesIO(b"title"))
    return file


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../outside.txt", tarfile.REGTYPE),
        ("/etc/outside.txt", tarfile.REGTYPE),
        (f"{RUN}/../../outside.txt", tarfile.REGTYPE),
        (f"{RUN}/checkpoints/round-1/../../../outside.txt", tarfile.REGTYPE),
        (f"{RUN}/checkpoints/round-1/policy.safetensors", tarfile.REGTYPE),
        (f"{RUN}/status.json", tarfile.SYMTYPE),
        (f"{RUN}/status.json", tarfile.LNKTYPE),
        (f"{RUN}/status.json", tarfile.DIRTYPE),
        (f"{RUN}/status.json", tarfile.FIFOTYPE),
    ],
)
def test_an_archive_with_anything_else_is_refused_before_anything_is_written(tmp_path, name, kind):
    runs = tmp_path / "runs"
    with pytest.raises(DataError, match="no packed table: it has"):
        unpack(archive(tmp_path / "bad.tar.xz", name, kind), runs)
    assert not runs.exists()


def test_a_file_that_would_fill_the_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "MEMBER_BYTES", 4)
    with pytest.raises(DataError, match=r"spec\.toml"):
        unpack(archive(tmp_path / "large.tar.xz", f"{RUN}/status.json"), tmp_path / "runs")


def test_a_cut_or_foreign_file_is_named(tmp_path, capsys):
    whole = archive(tmp_path / "whole.tar.xz", f"{RUN}/status.json").read_bytes()
    for content in (b"", b"not an archive", whole[: len(whole) // 2]):
        (tmp_path / "cut.tar.xz").write_bytes(content)
        with pytest.raises(DataError, match=r"cut\.tar\.xz"):
            unpack(tmp_path / "cut.tar.xz", tmp_path / "runs")
    table = ["table", str(ROOT / "experiments" / "table_a"), "--runs", str(tmp_path / "runs")]
    assert main([*table, "--unpack", str(tmp_path / "absent.tar.xz")]) != 0
    assert "absent.tar.xz" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_runs_that_are_there_stay_as_they_are(tmp_path):
    file = archive(tmp_path / "good.tar.xz", f"{RUN}/status.json")
    assert unpack(file, tmp_path) == [RUN]
    (tmp_path / RUN / "spec.toml").write_text("mine")
    assert unpack(file, tmp_path) == []
    assert (tmp_path / RUN / "spec.toml").read_text() == "mine"
