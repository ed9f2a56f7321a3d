"""Every event survives the way through its line, and no line holds a number that is none."""

import json
import math

import pytest

from acft import events
from acft.errors import DataError, NonFiniteError
from acft.events import KINDS, Evaluated, Event, Scalars, from_json, to_json
from tests.examples import example


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_event_survives_the_way_through_its_line(kind):
    event = example(KINDS[kind])
    line = to_json(event, 12, 1.7e9)
    assert "\n" not in line
    assert from_json(line) == (12, 1.7e9, event)


def test_every_event_class_has_a_kind_of_its_own():
    classes = {c for c in vars(events).values() if isinstance(c, type) and issubclass(c, Event)}
    assert set(KINDS.values()) == classes - {Event}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_number_that_is_not_finite_is_refused_by_name(value):
    with pytest.raises(NonFiniteError, match=r"'scalars' .* values\.policy/loss"):
        to_json(Scalars(1, 2, {"policy/loss": value}), 1, 0.0)


def test_field_of_a_newer_version_is_ignored():
    line = to_json(Scalars(1, 2, {}), 1, 0.0)
    newer = json.dumps(json.loads(line) | {"invented_later": 1})
    assert from_json(newer) == from_json(line)


@pytest.mark.parametrize("number", ["NaN", "1e999", "1" + "0" * 400])
def test_a_number_that_no_reader_can_hold_is_no_event(number):
    line = to_json(Scalars(1, 2, {"policy/ce": 0.5}), 1, 0.0)
    for written in ("0.5", '"time": 0.0', '"step": 2', '"seq": 1'):
        name, colon, _ = written.rpartition(": ")
        with pytest.raises(DataError, match="not an event line"):
            from_json(line.replace(written, f"{name}{colon}{number}"))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "3",
        '{"seq": 1, "time": 0}',
        '{"seq": 1, "time": 0, "kind": "no_such_kind"}',
        '{"seq": 1, "time": 0, "kind": "scalars"}',
        '{"time": 0, "kind": "note", "level": "info", "text": ""}',
        '{"seq": 1, "time": 0, "kind": "scalars", "round": 1, "step": 1, "values": null}',
        '{"seq": 1, "time": 0, "kind": "scalars", "round": 1, "step": 1, "values": {"a": "b"}}',
        '{"seq": 1, "time": 0, "kind": "scalars", "round": 1.5, "step": 1, "values": {}}',
        '{"seq": 1, "time": 0, "kind": ["scalars"]}',
        '{"seq": 1, "time": 0, "kind": "scalars", "round": "1", "step": 1, "values": {}}',
        '{"seq": 1, "time": 0, "kind": "scalars", "round": true, "step": 1, "values": {}}',
        '{"seq": 1, "time": 0, "kind": "scalars", "round": 1, "step": 1, "values": {"a": "1"}}',
        '{"seq": 1e999, "time": 0, "kind": "scalars", "round": 1, "step": 1, "values": {}}',
        '{"seq": "1", "time": 0, "kind": "scalars", "round": 1, "step": 1, "values": {}}',
        '{"seq": 1, "time": null, "kind": "scalars", "round": 1, "step": 1, "values": {}}',
        "[" * 100_000,
    ],
)
def test_line_that_is_no_event_is_an_error(line):
    with pytest.raises(DataError, match="not an event line"):
        from_json(line)


def test_a_whole_number_stands_where_a_fraction_may():
    line = to_json(Evaluated("suite", "metric", "base", 0.5, 3), 1, 0.0)
    assert from_json(line.replace('"time": 0.0', '"time": 7'))[1] == 7.0


def test_a_type_is_named_in_the_error():
    line = to_json(Scalars(1, 2, {}), 1, 0.0).replace('"step": 2', '"step": "2"')
    with pytest.raises(DataError, match="of another type or size: step"):
        from_json(line)


def test_what_no_reader_would_take_is_not_written():
    event = Scalars(1, 2, {"policy/loss": 0.5})
    event.values["policy/is_better"] = True
    with pytest.raises(DataError, match="of another type or size: values"):
        to_json(event, 1, 0.0)
