"""Files and folders that are whole or not there."""

import os
from pathlib import Path

from acft.atomic import PARTIAL, STALE_SECONDS, partial_folder


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
