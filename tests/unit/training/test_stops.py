"""A stop that comes while an oracle draws or learns: the run ends soon, with what was sealed."""

from collections.abc import Callable

import pytest

from acft.events import Calibration, Progress
from acft.methods.base import METHODS
from acft.training.oracle_job import build_oracle, oracle_job
from acft.training.outputs import Checkpoint, Output, Rows, TrainContext
from tests.toy_runs import drained, toy_run, world_of

NEVER_VIOLATED = {"kind": "pattern", "pattern": r"\bz z\b", "must": "not_occur"}
"""As a rare violation looks after some responses."""
METHODS_WITH_ORACLE = ("acft", "nado_decoding")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))


def until_stopped(name: str, run, asks: Callable[[Output], bool]) -> tuple[list[int], list[Output]]:
    """Sealed rounds, and all that a method says from where the first output asks for a stop."""
    after: list[Output] = []
    entry = METHODS.get(name)
    context = TrainContext(run, should_stop=lambda: bool(after))
    sealed = []
    for output in entry.train(entry.settings_type(), context):
        if after or asks(output):
            after.append(output)
        if isinstance(output, Checkpoint):
            sealed.append(output.round)
    return sealed, after


def comes_to(phase: str, round_index: int, done: int = 1) -> Callable[[Output], bool]:
    return lambda output: (
        isinstance(output, Progress)
        and (output.phase, output.round) == (phase, round_index)
        and output.done >= done
    )


def phases(outputs: list[Output]) -> list[str]:
    return [output.phase for output in outputs if isinstance(output, Progress)]


@pytest.mark.parametrize("name", ["sft", *METHODS_WITH_ORACLE])
def test_a_stop_while_all_is_loaded_comes_before_the_base_is_validated(tmp_path, name):
    sealed, after = until_stopped(name, toy_run(tmp_path), comes_to("load", 0, done=4))
    assert sealed == []
    assert phases(after) == ["load"]


@pytest.mark.parametrize("name", METHODS_WITH_ORACLE)
def test_nothing_is_learned_from_a_part_of_the_responses(tmp_path, name):
    """All that were drawn satisfy, which is an error only where they are all there should be."""
    run = toy_run(tmp_path, "oracle.rollouts_per_round=4000", constraint=[NEVER_VIOLATED])
    sealed, after = until_stopped(name, run, comes_to("sample_oracle", 1, done=100))
    assert sealed == []
    assert set(phases(after)) == {"sample_oracle"}
    (recorded,) = [rows for rows in after if isinstance(rows, Rows) and rows.table == "rollouts"]
    assert 100 <= len(recorded.rows) < 4000
    assert not any(isinstance(output, Calibration) for output in after)


def test_no_held_out_response_is_drawn_after_a_stop(tmp_path):
    run = toy_run(tmp_path, "oracle.rollouts_per_round=128")
    _, after = until_stopped("acft", run, comes_to("sample_oracle", 1, done=128))
    assert set(phases(after)) <= {"sample_oracle", "sample_validation"}
    assert all(output.done == 0 for output in after[1:] if isinstance(output, Progress))


@pytest.mark.parametrize("name", METHODS_WITH_ORACLE)
def test_an_oracle_learns_no_epoch_more_and_sealed_rounds_are_kept(tmp_path, name):
    run = toy_run(tmp_path, "oracle.max_epochs=30", "oracle.patience=30")
    sealed, after = until_stopped(name, run, comes_to("fit_oracle", 2))
    assert sealed == [1]
    assert phases(after) == ["fit_oracle"]


@pytest.mark.parametrize("threads", [1, 2], ids=["in turn", "at once"])
@pytest.mark.parametrize(("phase", "done"), [("sample_oracle", 100), ("fit_oracle", 1)])
def test_both_jobs_of_the_parallel_schedule_end(tmp_path, phase, done, threads):
    run = toy_run(
        tmp_path, "schedule.kind=parallel", f"schedule.threads={threads}",
        "oracle.rollouts_per_round=400", "oracle.max_epochs=8", "oracle.patience=8",
    )  # fmt: skip
    sealed, after = until_stopped("acft", run, comes_to(phase, 2, done))
    assert sealed == [1]
    assert phases(after).count(phase) <= 3  # some were under way
    assert not any(isinstance(output, Calibration) for output in after)


def test_an_oracle_that_is_trained_when_the_stop_comes_is_sealed(tmp_path):
    sealed, _ = until_stopped(
        "nado_decoding", toy_run(tmp_path), lambda output: isinstance(output, Calibration)
    )
    assert sealed == [1]


def test_an_oracle_whose_round_was_cut_short_is_as_it_was(tmp_path):
    world = world_of(toy_run(tmp_path, "oracle.max_epochs=30", "oracle.patience=30"))
    oracle = build_oracle(world)
    before = {name: value.clone() for name, value in oracle.state_dict().items()}
    is_asked = iter([False] * 5)
    job = oracle_job(world, oracle, world.base, 1, [], lambda: next(is_asked, True))
    found = drained(job)
    assert not found.is_whole
    assert found.guide.oracle.version == 0
    assert all((value == before[name]).all() for name, value in oracle.state_dict().items())
