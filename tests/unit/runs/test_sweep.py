import json
import time

import pytest

from acft.errors import ConfigError, RunError
from acft.runs import launcher, sweep
from acft.runs.directory import find_run, read_launch, write_status
from acft.schema import Status
from tests.fake_runs import SPEC, launched

pytestmark = pytest.mark.usefixtures("fake_method_known")


def test_a_grid_queues_each_combination_once(tmp_path):
    axes = [sweep.parse_axis("seed=0|1"), sweep.parse_axis("sampling.horizon=20|10")]
    planned = sweep.plan(tmp_path, SPEC, axes)
    assert len(planned.fresh) == 4
    ids = sweep.queue(tmp_path, planned, 4, time.time())
    assert [read_launch(find_run(tmp_path, name)).overrides for name in ids] == [
        ("seed=0", "sampling.horizon=20"), ("seed=0", "sampling.horizon=10"),
        ("seed=1", "sampling.horizon=20"), ("seed=1", "sampling.horizon=10"),
    ]  # fmt: skip
    assert len({read_launch(find_run(tmp_path, name)).sweep for name in ids}) == 1


def test_combinations_that_ask_for_the_same_numbers_are_one(tmp_path):
    axes = [sweep.parse_axis("seed=0|1"), sweep.parse_axis("title='a'|'b'")]
    planned = sweep.plan(tmp_path, SPEC, axes)
    assert (len(planned.variants), planned.repeated) == (2, 2)


def test_combinations_that_a_run_has_already_are_not_queued_again(tmp_path):
    existing = launched(tmp_path, "seed=1")
    planned = sweep.plan(tmp_path, SPEC, [sweep.parse_axis("seed=0|1")])
    assert [variant.existing for variant in planned.variants] == ["", existing.root.name]
    assert len(planned.fresh) == 1


def test_a_grid_is_queued_only_as_confirmed(tmp_path):
    planned = sweep.plan(tmp_path, SPEC, [sweep.parse_axis("seed=0|1")])
    with pytest.raises(RunError, match="3 runs were confirmed, but 2"):
        sweep.queue(tmp_path, planned, 3, time.time())
    assert launcher.runs(tmp_path) == []


@pytest.mark.parametrize("text", ["seed", "=1", "seed=", "seed=|"])
def test_a_malformed_axis_is_an_error(text):
    with pytest.raises(ConfigError, match="is not of the form"):
        sweep.parse_axis(text)


def test_a_grid_with_a_wrong_value_queues_nothing(tmp_path):
    with pytest.raises(ConfigError, match="horizon"):
        sweep.plan(tmp_path, SPEC, [sweep.parse_axis("sampling.horizon=5|-1")])


def test_a_grid_with_a_file_that_is_not_there_queues_nothing(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        sweep.plan(tmp_path, SPEC, [sweep.parse_axis("prompts.source='demo'|'no.txt'")])


def test_a_damaged_launch_record_does_not_stop_a_sweep(tmp_path):
    launched(tmp_path).launch.write_text("[")
    assert len(sweep.plan(tmp_path, SPEC, [sweep.parse_axis("seed=0|1")]).fresh) == 2


@pytest.mark.parametrize(
    ("status", "fresh"),
    [("running", 2), ("stopped", 2), ("failed", 2), ("queued", 1), ("finished", 1)],
)
def test_a_grid_skips_only_what_somebody_does_or_has_done(tmp_path, status, fresh):
    write_status(launched(tmp_path, "seed=1"), Status(state=status))  # whose process is gone
    assert len(sweep.plan(tmp_path, SPEC, [sweep.parse_axis("seed=0|1")]).fresh) == fresh


def test_a_grid_knows_runs_whose_fingerprint_was_another_in_an_earlier_version(tmp_path):
    earlier = launched(tmp_path, "seed=1")
    record = json.loads(earlier.launch.read_text())
    earlier.launch.write_text(json.dumps({**record, "fingerprint": "before a setting was added"}))
    planned = sweep.plan(tmp_path, SPEC, [sweep.parse_axis("seed=0|1")])
    assert [variant.existing for variant in planned.variants] == ["", earlier.root.name]


def test_a_bar_inside_quotes_separates_no_values():
    found = sweep.parse_axis("""constraint.0.pattern="a|b" | 'c|d' | e""")
    assert found == [f"constraint.0.pattern={v}" for v in ('"a|b"', "'c|d'", "e")]
