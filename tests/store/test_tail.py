import json

import pytest

from acft.eventlog import EventWriter, last_entry, read_events
from acft.events import Note, to_json
from acft.store import tail
from acft.store.tail import Chunk, Position, read_on


def line(seq, text="x"):
    return to_json(Note("info", text), seq, 0.0) + "\n"


def read(path, start) -> Chunk:
    chunk = read_on(path, start)
    assert chunk is not None
    return chunk


def numbers(chunk):
    return [line.entry.seq for line in chunk.lines]


def test_a_missing_file_has_no_lines(tmp_path):
    chunk = read(tmp_path / "events.jsonl", Position())
    assert (chunk.lines, chunk.position, chunk.is_last) == ([], Position(), True)


def test_a_file_that_vanished_does_not_continue(tmp_path):
    assert read_on(tmp_path / "events.jsonl", Position(10, 1, "ab")) is None


def test_reading_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text(line(1) + line(2))
    first = read(path, Position())
    path.write_text(line(1) + line(2) + line(3))
    second = read(path, first.position)
    assert numbers(first) == [1, 2]
    assert numbers(second) == [3]
    assert second.lines[0].text == line(3).strip()


def test_a_torn_line_waits_until_it_is_whole(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text(line(1) + line(2)[:10])
    first = read(path, Position())
    assert (numbers(first), first.problem) == ([1], "")
    path.write_text(line(1) + line(2))
    assert numbers(read(path, first.position)) == [2]


@pytest.mark.parametrize("damage", ["not json\n", "\xff\n", "{}\n", line(7)])
def test_a_line_that_is_no_event_or_has_a_wrong_number_ends_the_file(tmp_path, damage):
    path = tmp_path / "events.jsonl"
    path.write_bytes((line(1) + damage + line(2)).encode("latin-1"))
    chunk = read(path, Position())
    assert numbers(chunk) == [1]
    assert "line 2 of the event file" in chunk.problem
    assert chunk.is_last


def test_other_bytes_before_the_position_mean_the_file_does_not_continue(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text(line(1) + line(2, "old"))
    position = read(path, Position()).position
    path.write_text(line(1) + line(2, "new") + line(3))
    assert read_on(path, position) is None


def test_a_shorter_file_does_not_continue(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text(line(1) + line(2))
    position = read(path, Position()).position
    path.write_text(line(1))
    assert read_on(path, position) is None


def test_long_files_come_in_chunks_that_end_with_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(tail, "CHUNK_BYTES", 100)
    path = tmp_path / "events.jsonl"
    path.write_text(line(1) + line(2, "long" * 100) + line(3))
    position, found = Position(), []
    while True:
        chunk = read(path, position)
        found += numbers(chunk)
        position = chunk.position
        if chunk.is_last:
            break
    assert found == [1, 2, 3]


@pytest.mark.parametrize(
    "field", [{"text": None}, {"text": 3}, {"round": "1"}, {"step": True}, {"seq": 2.0}]
)
def test_all_readers_end_at_the_same_line_with_a_field_of_another_type(tmp_path, field):
    path = tmp_path / "events.jsonl"
    damaged = json.dumps(json.loads(line(2)) | field) + "\n"
    path.write_text(line(1) + damaged + line(3))
    assert numbers(read(path, Position())) == [1]
    assert [entry.seq for entry in read_events(path)] == [1]
    path.write_text(line(1) + damaged)
    assert last_entry(path) is None
    writer = EventWriter(path)
    writer.close()
    assert writer.seq == 1
