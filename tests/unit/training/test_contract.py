"""Whoever writes a training method is told which of its promises it breaks, and where."""

import json
import re

import pytest

from acft.errors import ConfigError
from acft.events import Note
from acft.methods.base import METHODS, Method
from acft.runs.directory import read_status
from acft.runs.worker import DONE, FAILED
from acft.settings import RunSettings
from acft.training.contract import promised
from acft.training.outputs import Checkpoint, TrainContext
from tests.fake_method import FakeSettings
from tests.fake_runs import create, do


def ended(tmp_path, monkeypatch, train, *overrides):
    """The worker's exit code and the status of a run of three rounds by that function."""
    monkeypatch.setitem(METHODS._items, "fake", Method(FakeSettings, train))
    paths = create(tmp_path, *overrides)
    return do(paths), read_status(paths)


def note():
    yield Note("info", "loaded")


def sealing(n_rounds):
    def train(_settings, _context):
        for number in range(1, n_rounds + 1):
            yield Checkpoint(number, number, 0, lambda folder: (folder / "policy").mkdir())

    return train


@pytest.mark.parametrize("n_rounds", [0, 2])
def test_a_method_that_ends_before_all_rounds_are_sealed_has_failed(
    tmp_path, monkeypatch, n_rounds
):
    code, status = ended(tmp_path, monkeypatch, sealing(n_rounds))
    assert (code, status.state, status.round) == (FAILED, "failed", n_rounds)
    assert status.message.startswith("method 'fake' (")
    assert f"test_contract.py, line {sealing(0).__code__.co_firstlineno}) ended" in status.message
    assert f"after {n_rounds} of 3 rounds" in status.message


def plain(_settings, _context):
    return None


def greeting(_settings, _context):
    yield "hello"


def announcing(_settings, _context):
    yield Note


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (plain, "gave None; it must be a generator"),
        (greeting, "yielded 'hello', a str; allowed are events"),
        (announcing, "yielded <class 'acft.events.Note'>, a type; allowed are events"),
    ],
)
def test_what_is_no_output_is_refused_with_the_place_of_the_training_function(
    tmp_path, monkeypatch, train, message
):
    code, status = ended(tmp_path, monkeypatch, train)
    assert (code, status.state) == (FAILED, "failed")
    place = f"test_contract.py, line {train.__code__.co_firstlineno})"
    assert f"{place} {message}" in status.message


def test_a_bug_of_a_method_is_told_with_where_it_arose_and_the_line_of_the_method(
    tmp_path, monkeypatch
):
    def train(_settings, _context):
        yield from note()
        json.loads("{")

    monkeypatch.setitem(METHODS._places, "fake", __name__)
    _, status = ended(tmp_path, monkeypatch, train)
    line = train.__code__.co_firstlineno + 2
    assert status.message.startswith("JSONDecodeError: ")
    assert re.search(
        rf" \(\S+/json/decoder.py, line \d+, reached from \S+/test_contract.py, line {line}\)$",
        status.message,
    )


@pytest.mark.parametrize("fail_round", [1, 2])
def test_only_a_run_with_a_sealed_round_is_said_to_be_resumable(tmp_path, fail_round):
    paths = create(tmp_path, "method.fail=bug", f"method.fail_round={fail_round}")
    do(paths)
    status = read_status(paths)
    assert "fake_method.py, line" in status.message
    assert "acft runs ID" in status.advice
    assert ("resumed" in status.advice) == (fail_round > 1)


def test_a_method_that_ends_early_for_its_budget_or_since_it_is_asked_to_is_done(
    tmp_path, monkeypatch
):
    budget = "limits.kl_base_budget=0.1"
    assert ended(tmp_path / "a", monkeypatch, sealing(1), budget)[0] == DONE
    assert ended(tmp_path / "b", monkeypatch, sealing(0), budget)[0] == FAILED

    def asked(_settings, context: TrainContext):
        yield from note()
        paths.stop_request.write_text("save")
        assert context.should_stop()

    monkeypatch.setitem(METHODS._items, "fake", Method(FakeSettings, asked))
    paths = create(tmp_path / "c")
    assert do(paths) == DONE
    assert read_status(paths).state == "stopped"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((None, sealing(1)), "settings_type of a Method is None; give a class of settings"),
        ((FakeSettings(), sealing(1)), "settings_type of a Method is FakeSettings.*; give a class"),
        ((int, sealing(1)), "settings_type of a Method is <class 'int'>; give a class of settings"),
        ((FakeSettings, None), "train of a Method is None; give a function"),
        ((FakeSettings, sealing(1), {}), "facts of a Method is {}; give a function"),
    ],
)
def test_a_method_of_wrong_parts_is_refused_when_it_is_made(parts, message):
    with pytest.raises(ConfigError, match=message):
        Method(*parts)


def test_leaving_early_ends_the_training_function():
    ends = []

    def train(_settings, _context):
        try:
            yield from note()
        finally:
            ends.append(True)

    passing = promised(train, None, TrainContext(RunSettings()))
    next(passing)
    passing.close()
    assert ends == [True]
