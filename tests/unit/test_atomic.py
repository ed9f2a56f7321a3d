"""Files and folders that are whole or not there."""

import os
from pathlib import Path

import pytest

from acft.atomic import (
    ABSENT,
    PARTIAL,
    STALE_SECONDS,
    file_mark,
    new_folder,
    partial_folder,
    replace_bytes,
)


def test_remains_of_a_process_that_was_killed_long_ago_are_removed_and_fresh_ones_are_not(tmp_path):
    old, fresh = tmp_path / f"{PARTIAL}old", tmp_path / f"{PARTIAL}fresh"
    others = tmp_path / "model", tmp_path / "partial-results"  # of whoever named the place
    for folder in (old, fresh, *others):
        folder.mkdir()
        (folder / "weights").write_text("half")
    for folder in (old, *others):
        then = folder.stat().st_mtime - STALE_SECONDS - 1
        os.utime(folder, (then, then))
    with partial_folder(tmp_path) as name:
        assert Path(name).name.startswith(PARTIAL)
        assert {path.name for path in tmp_path.iterdir()} == {
            fresh.name, *(other.name for other in others), Path(name).name,
        }  # fmt: skip


def test_the_mark_of_a_file_changes_when_it_is_replaced_by_one_as_long_and_as_old(tmp_path):
    file = tmp_path / "status.json"
    assert file_mark(file) == ABSENT
    replace_bytes(file, b"a")
    before, times = file_mark(file), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    replace_bytes(file, b"b")
    os.utime(file, ns=times)
    assert file_mark(file) != before
    assert file_mark(file)[:2] == before[:2]


def test_a_new_folder_has_its_name_only_once_it_is_filled_and_leaves_nothing_where_that_fails(
    tmp_path,
):
    made = tmp_path / "within" / "made"
    with new_folder(made) as folder:
        (folder / "file").write_text("whole")
        assert not made.exists()
    assert (made / "file").read_text() == "whole"
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "within" / "half") as folder:
        (folder / "no such folder" / "file").write_text("half")
    assert [path.name for path in (tmp_path / "within").iterdir()] == ["made"]
