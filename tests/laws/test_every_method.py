"""What every method that trains or guides must do, on a model of a few thousand weights."""

import math
from pathlib import Path

import pytest

from acft.distributed import AgreedStop
from acft.engines.local import LocalEngine
from acft.eventlog import EventWriter, read_events
from acft.events import BestCheckpoint, Evaluated, Event, Progress, Scalars
from acft.methods.base import METHODS
from acft.schema import TABLES
from acft.training.outputs import Checkpoint, Rows
from tests.toy_runs import Trained, largest_difference, toy_run, trained

NAMES = [name for name in METHODS.names() if name != "evaluate"]
OWN = {"dpo": {"beta": 0.5}}
"""Settings with which three rounds on the toy model leave something to learn in each."""


class Watched(LocalEngine):
    """Refuses to draw once it is closed."""

    n_closed = 0

    def draw(self, backbone, weights, request):
        assert not self.n_closed
        return super().draw(backbone, weights, request)

    def close(self) -> None:
        self.n_closed += 1


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toy")


@pytest.fixture(scope="module")
def engines() -> dict[str, Watched]:
    """What draws the responses of each method's whole run."""
    return {name: Watched() for name in NAMES}


@pytest.fixture(scope="module")
def whole(place: Path, engines: dict[str, Watched], tmp_path_factory: pytest.TempPathFactory):
    """Each method's whole run, made when first asked for."""
    made: dict[str, Trained] = {}

    def run(name: str) -> Trained:
        if name not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("acft.training.world.build_engine", lambda _: engines[name])
                made[name] = trained(tmp_path_factory.mktemp(name), settings(place), method(name))
        return made[name]

    return run


@pytest.fixture(autouse=True)
def _own_cache(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACFT_ASSETS", str(place / "cache"))


def method(name: str) -> dict:
    return {"name": name, **OWN.get(name, {})}


def settings(place: Path):
    return toy_run(
        place, "evaluation.test_prompts=3", "evaluation.continuations=4",
        "optimizer.lr=1e-3", "oracle.rollouts_per_round=96",
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_round_is_validated_and_sealed_and_the_best_is_named(name, whole):
    run = whole(name)
    assert set(run.checkpoints) == {1, 2, 3}
    validated = [
        output.round
        for output in run.outputs
        if isinstance(output, Scalars) and "rollout/satisfaction" in output.values
    ]
    assert validated == [0, 1, 2, 3]
    best = [output for output in run.outputs if isinstance(output, BestCheckpoint)]
    assert best
    assert best[-1].checkpoint == f"checkpoints/round-{best[-1].round}"


@pytest.mark.parametrize("name", NAMES)
def test_base_and_result_are_evaluated_alike_in_the_end(name, whole):
    found: dict[str, set[str]] = {}
    for output in whole(name).outputs:
        if isinstance(output, Evaluated) and output.suite.startswith("rtp"):
            found.setdefault(output.subject, set()).add(output.metric)
    result = "guided" if name == "nado_decoding" else "policy"
    assert set(found) == {"base", result}
    assert found["base"] <= found[result]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_method_says_of_its_work_is_what_it_does(name, place, whole):
    said, run = METHODS.get(name), whole(name)
    scalars = [output for output in run.outputs if isinstance(output, Scalars)]
    last = max(scalar.step for scalar in scalars if scalar.is_of_policy)
    own = said.settings_type.parse(OWN.get(name, {}), "method")
    n_steps = 3 * settings(place).optimizer.steps_per_round
    assert last == (n_steps if said.takes_steps(own) else 0)
    measured = {value for scalar in scalars for value in scalar.values}
    assert said.has_oracle == any(value.startswith("oracle/") for value in measured)
    if said.is_counted:
        assert not said.decoder(own)
        assert "train" not in {row["purpose"] for row in run.rows("rollouts")}


@pytest.mark.parametrize("name", NAMES)
def test_events_can_be_written_and_rows_are_those_of_the_tables(name, whole, tmp_path):
    writer = EventWriter(tmp_path / "events.jsonl")
    for output in whole(name).outputs:
        if isinstance(output, Rows):
            assert all(set(row) <= set(TABLES[output.table].names) for row in output.rows)
        elif isinstance(output, Event):
            writer.append(output)
        else:
            assert isinstance(output, Checkpoint)
    writer.close()
    assert list(read_events(tmp_path / "events.jsonl"))


@pytest.mark.parametrize("name", NAMES)
def test_progress_never_passes_its_end(name, whole):
    for output in whole(name).outputs:
        if isinstance(output, Progress):
            assert 0 <= output.done <= output.total
        if isinstance(output, Scalars):
            assert all(math.isfinite(value) for value in output.values.values())


@pytest.mark.parametrize("name", NAMES)
def test_no_round_learns_from_more_responses_than_an_oracle_would(name, whole):
    run = whole(name)
    for index in (1, 2, 3):
        drawn = [r for r in run.rows("rollouts") if r["round"] == index]
        learned = [r for r in drawn if r["purpose"] in ("oracle", "train")]
        assert len(learned) <= 96
        assert len({r["rollout_id"] for r in drawn}) == len(drawn)


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_has_the_numbers_of_the_uninterrupted_one(name, place, whole, tmp_path):
    first = whole(name)
    again = trained(tmp_path, settings(place), method(name), resume=(first.checkpoints[1], 1))
    assert again.scalars(first_round=2) == first.scalars(first_round=2)
    assert again.rows("rollouts", 2) == first.rows("rollouts", 2)
    assert largest_difference(again.weights(3), first.weights(3)) == 0.0


@pytest.mark.parametrize("asking", [lambda stop: stop, AgreedStop], ids=["alone", "agreed"])
@pytest.mark.parametrize("name", NAMES)
def test_a_stop_is_obeyed_and_the_sealed_round_is_enough_to_go_on(name, asking, place, tmp_path):
    run = settings(place)
    stopped = trained(
        tmp_path / "stopped", run, method(name), stop_after_checkpoint=1, asking=asking
    )
    assert set(stopped.checkpoints) == {1}
    assert not any(isinstance(output, Evaluated) for output in stopped.outputs)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_printed(name, place, tmp_path, capfd):
    trained(tmp_path, settings(place), method(name), stop_after_checkpoint=1)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


@pytest.mark.parametrize("name", NAMES)
def test_what_draws_responses_is_closed_once_with_the_run(name, whole, engines):
    whole(name)
    assert engines[name].n_closed == 1
