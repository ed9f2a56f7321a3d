import pytest

from acft.errors import NonFiniteError
from acft.eventlog import Entry, EventWriter, effective, read_events
from acft.events import Event, Finished, Note, RoundFinished, Scalars, Started


def note(text):
    return Note("info", text)


def write(path, *events):
    writer = EventWriter(path)
    for event in events:
        writer.append(event)
    writer.close()


def numbered_texts(path):
    return [(e.seq, e.event.text) for e in read_events(path) if isinstance(e.event, Note)]


def texts(entries):
    return [entry.event.text for entry in entries if isinstance(entry.event, Note)]


def test_events_are_numbered_from_one_without_gaps(tmp_path):
    path = tmp_path / "events.jsonl"
    write(path, note("a"), note("b"))
    write(path, note("c"))
    assert numbered_texts(path) == [(1, "a"), (2, "b"), (3, "c")]


def test_a_torn_last_line_is_invisible_and_then_cut_off(tmp_path):
    path = tmp_path / "events.jsonl"
    write(path, note("a"), note("b"))
    path.write_bytes(path.read_bytes()[:-7])
    assert texts(read_events(path)) == ["a"]
    write(path, note("c"))
    assert numbered_texts(path) == [(1, "a"), (2, "c")]
    assert list(tmp_path.iterdir()) == [path]


def test_every_cut_through_the_file_leaves_whole_events_and_goes_on(tmp_path):
    whole = tmp_path / "whole.jsonl"
    write(whole, note("a"), note("b"), note("c"))
    content = whole.read_bytes()
    for length in range(len(content)):
        path = tmp_path / f"{length}.jsonl"
        path.write_bytes(content[:length])
        kept = content[:length].count(b"\n")
        write(path, note("next"))
        assert texts(read_events(path)) == [*"abc"[:kept], "next"]


def test_garbage_inside_is_kept_beside_the_file_and_numbering_stays_contiguous(tmp_path):
    path = tmp_path / "events.jsonl"
    write(path, note("a"))
    good = path.read_bytes()
    path.write_bytes(good + b"\0\0\0\n" + good)
    assert texts(read_events(path)) == ["a"]
    write(path, note("b"))
    assert [entry.seq for entry in read_events(path)] == [1, 2]
    assert (tmp_path / "events.jsonl.damaged-2").read_bytes() == b"\0\0\0\n" + good


def test_a_growing_file_is_read_to_the_end_of_its_last_line(tmp_path):
    path = tmp_path / "events.jsonl"
    assert read_events(path) == []
    write(path, note("a"))
    line = path.read_bytes()
    path.write_bytes(line + b'{"seq": 2, "ti')
    assert texts(read_events(path)) == ["a"]
    write(path, note("b"))
    assert texts(read_events(path)) == ["a", "b"]
    assert [entry.seq for entry in read_events(path)] == [1, 2]


def test_a_value_that_is_not_finite_is_refused_and_leaves_nothing(tmp_path):
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    with pytest.raises(NonFiniteError, match="policy/ce"):
        writer.append(Scalars(1, 1, {"policy/ce": float("nan")}))
    writer.append(note("a"))
    writer.close()
    assert numbered_texts(path) == [(1, "a")]


def test_a_write_that_fails_half_way_leaves_no_partial_line(tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    write(path, note("a"))
    writer = EventWriter(path)

    def half(file, line):
        file.write(line[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("acft.eventlog._write_all", half)
        with pytest.raises(OSError, match="No space"):
            writer.append(note("lost"))
    writer.append(note("b"))
    writer.close()
    assert numbered_texts(path) == [(1, "a"), (2, "b")]


def entries(*events: Event) -> list[Entry]:
    return [Entry(number, 0.0, event) for number, event in enumerate(events, 1)]


def finished(number):
    return RoundFinished(number, f"checkpoints/round-{number}", number, number)


def test_a_resume_undoes_what_came_after_its_round_and_keeps_the_history():
    log = entries(
        Started(1), note("r1"), finished(1), note("r2 lost"), Finished("failed"),
        Started(2, resumed_from_round=1), note("r2"), finished(2),
    )  # fmt: skip
    kept = effective(log)
    assert texts(kept) == ["r1", "r2"]
    assert [e.seq for e in kept if isinstance(e.event, (Started, Finished))] == [1, 5, 6]


def test_a_resume_from_the_beginning_undoes_everything():
    log = entries(Started(1), note("r1"), finished(1), Started(2), note("again"))
    assert texts(effective(log)) == ["again"]


def test_the_latest_of_two_endings_of_a_round_is_the_one_to_continue_from():
    log = entries(
        Started(1), finished(1), note("old r2"), finished(2), Started(2, 1), note("r2"),
        finished(2), note("r3 lost"), Started(3, 2), note("r3"),
    )  # fmt: skip
    assert texts(effective(log)) == ["r2", "r3"]
