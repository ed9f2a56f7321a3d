"""What ``acft evaluate`` prints for programs."""

import json
from dataclasses import dataclass

import pytest

from acft.__main__ import main
from acft.runs import detached, measure
from acft.runs.directory import all_runs
from acft.runs.spec import Spec, parse_spec
from tests import fake_method
from tests.fake_runs import SPEC


@dataclass
class Wanted:
    """An evaluation that the method of the tests does."""

    spec: Spec
    text: str = SPEC
    overrides: tuple[str, ...] = ()
    experiment: str = ""
    subject: str = ""

    def checked(self) -> Spec:
        return self.spec


@pytest.fixture
def evaluate(tmp_path, monkeypatch, capsys):
    """Exit code and what stands on the standard output, as JSON."""
    fake_method.register()
    monkeypatch.setattr("acft.commands._subject.check_subject", lambda *_: None)
    monkeypatch.setattr(detached, "ensure_supervisor", lambda _: "a process with pid 7")

    def evaluating(*options: str, overrides: tuple[str, ...] = ()):
        wanted = Wanted(parse_spec(SPEC, overrides), overrides=overrides)
        monkeypatch.setattr(measure, "measurement", lambda *_: wanted)
        code = main(["evaluate", "model", "--json", "--runs", str(tmp_path), *options])
        return code, json.loads(capsys.readouterr().out)

    return evaluating


def test_measurements_are_printed_as_json_with_the_run_they_are_of(evaluate, tmp_path):
    code, told = evaluate()
    (result,) = told.pop("results")
    assert code == 0
    assert told == {
        "run_id": all_runs(tmp_path)[0].root.name, "state": "finished", "failure": "",
        "message": "",
    }  # fmt: skip
    assert (result["suite"], result["metric"], result["subject"]) == (
        "rtp/fake", "toxic_share", "policy"
    )  # fmt: skip
    assert (result["n"], result["low"], result["high"]) == (3, 0.1, 0.9)


def test_an_evaluation_that_fails_says_so_as_json_and_by_its_exit_code(evaluate):
    code, told = evaluate(overrides=("method.fail=data",))
    assert code != 0
    assert (told["state"], told["failure"], told["results"]) == ("failed", "data", [])
    assert "no documents" in told["message"]


def test_an_evaluation_that_is_queued_is_told_as_a_launch_is(evaluate, tmp_path):
    code, told = evaluate("--background")
    assert code == 0
    assert told == {
        "run_ids": [all_runs(tmp_path)[0].root.name], "supervisor": "a process with pid 7"
    }  # fmt: skip
