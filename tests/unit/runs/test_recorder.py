import pyarrow.parquet as pq
import pytest

from acft.checkpoints import seal, verify
from acft.errors import DataError, NonFiniteError
from acft.eventlog import read_events
from acft.events import ShardSealed
from acft.runs.recorder import Recorder
from acft.schema import TABLES
from acft.training.outputs import Checkpoint, Rows
from tests.fake_runs import create

ROW = {"rollout_id": "a", "scorer": "fake", "scorer_version": "1", "value": 0.5}


@pytest.fixture
def paths(tmp_path):
    return create(tmp_path)


@pytest.fixture
def recorder(paths):
    recorder = Recorder(paths)
    yield recorder
    recorder.close()


def test_rows_are_stored_with_the_columns_of_the_contract(paths, recorder):
    recorder.take(Rows("scores", 1, [ROW, {"rollout_id": "b", "value": 1.0}]))
    (entry,) = read_events(paths.events)
    assert isinstance(entry.event, ShardSealed)
    table = pq.read_table(paths.shards / entry.event.name)
    assert table.schema.equals(TABLES["scores"])
    assert table.to_pylist()[1] == {
        "rollout_id": "b", "scorer": None, "scorer_version": None, "value": 1.0,
    }  # fmt: skip


def test_no_rows_make_no_shard(paths, recorder):
    recorder.take(Rows("scores", 1, []))
    assert read_events(paths.events) == []
    assert list(paths.shards.iterdir()) == []


def test_a_value_that_is_not_finite_makes_no_shard(paths, recorder):
    with pytest.raises(NonFiniteError, match="'value' of a 'scores' shard"):
        recorder.take(Rows("scores", 1, [ROW | {"value": float("inf")}]))
    assert list(paths.shards.iterdir()) == []


def test_an_unknown_column_is_our_own_mistake(recorder):
    with pytest.raises(ValueError, match="no columns \\['colour'\\]"):
        recorder.take(Rows("scores", 1, [ROW | {"colour": "blue"}]))


def test_a_shard_that_cannot_be_written_leaves_nothing(paths, recorder, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("acft.runs.recorder.sync_file", full)
    with pytest.raises(OSError, match="No space"):
        recorder.take(Rows("scores", 1, [ROW]))
    assert list(paths.shards.iterdir()) == []


def test_a_checkpoint_that_fails_to_save_leaves_nothing(paths, recorder):
    def save(folder):
        (folder / "half").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        recorder.take(Checkpoint(1, 1, 1, save))
    assert list(paths.checkpoints.iterdir()) == []
    assert read_events(paths.events) == []


def write(text, name="weights"):
    def save(folder):
        (folder / name).write_text(text)

    return save


def test_sealing_again_replaces_the_whole_checkpoint(tmp_path):
    folder = tmp_path / "round-1"
    seal(folder, write("old", "other"))
    seal(folder, write("new"))
    verify(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "weights"]


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "weights").write_text("other"),
        lambda folder: (folder / "weights").write_text("same length"[:3]),
        lambda folder: (folder / "weights").unlink(),
        lambda folder: (folder / "added").write_text(""),
        lambda folder: (folder / "manifest.json").write_text("{}"),
        lambda folder: (folder / "manifest.json").write_text('{"files": []}'),
        lambda folder: (folder / "manifest.json").write_text('{"files": {"weights": 3}}'),
        lambda folder: (folder / "manifest.json").unlink(),
    ],
)
def test_any_change_of_a_sealed_checkpoint_is_noticed(tmp_path, harm):
    folder = tmp_path / "round-1"
    seal(folder, write("new"))
    harm(folder)
    with pytest.raises(DataError, match="round-1"):
        verify(folder)
