import pytest

from acft.errors import DataError
from acft.eventlog import EventWriter
from acft.events import RoundFinished, Scalars, Started
from acft.runs import recording
from acft.runs.comparison import differences
from acft.runs.directory import read_status, write_labels, write_status
from acft.runs.estimates import estimate, estimates
from acft.runs.space import space
from acft.runs.spec import parse_spec, spec_of
from acft.schema import Labels, Status
from tests.fake_runs import SPEC, create, do

pytestmark = pytest.mark.usefixtures("fake_method_known")


def test_an_estimate_is_told_from_finished_runs_of_the_same_kind(tmp_path, done):
    spec = parse_spec(SPEC, ["schedule.rounds=6"])
    expected = estimate(tmp_path, spec)
    assert expected is not None
    status = read_status(done)
    assert expected.seconds == pytest.approx(2 * (status.ended - status.started))
    assert expected.bytes == pytest.approx(2 * space(done).total, abs=24)
    other = parse_spec(SPEC, ["model.name='other'"])
    assert estimates(tmp_path, [spec, other]) == [expected, None]


def test_a_run_recorded_elsewhere_foretells_nothing_here(tmp_path, done):
    write_labels(done, Labels(tags=(recording.TAG,)))
    assert estimate(tmp_path, parse_spec(SPEC)) is None


def test_an_estimate_counts_all_attempts_of_a_resumed_run(tmp_path):
    resumed = create(tmp_path)
    spent = [("loading", 100.0), ("training", 3000.0), ("training", 6000.0)]
    first, second, third = [
        Scalars(n + 1, 4 * n, {f"budget/seconds/{doing}": seconds})
        for n, (doing, seconds) in enumerate(spent)
    ]
    writer = EventWriter(resumed.events)
    for event in (
        Started(1, 0), first, RoundFinished(1, "checkpoints/round-1", 1, 1),
        Scalars(2, 8, {"budget/seconds/training": 500.0}),  # of a round that was done again
        Started(2, 1), second, third, RoundFinished(3, "checkpoints/round-3", 3, 3),
    ):  # fmt: skip
        writer.append(event)
    writer.close()
    last = Status(
        state="finished",
        step=12,
        steps=12,
        started=0.0,
        ended=60.0,
        resumed_from="checkpoints/round-1",
    )
    write_status(resumed, last)
    expected = estimate(tmp_path, parse_spec(SPEC))
    assert expected is not None
    assert expected.seconds == pytest.approx(9100.0)


def test_a_run_without_steps_is_told_from_rounds_of_its_kind(tmp_path):
    decoded = create(tmp_path, "method={name='nado_decoding'}")
    status = Status(state="finished", round=3, rounds=3, started=0.0, ended=60.0)
    write_status(decoded, status)
    twice = ["method={name='nado_decoding'}", "schedule.rounds=6"]
    wanted = [parse_spec(SPEC, twice), parse_spec(SPEC, [*twice, "method.start='sft'"])]
    assert [spec.steps for spec in wanted] == [0, 24]
    expected, other = estimates(tmp_path, wanted)
    assert expected is not None
    assert expected.seconds == pytest.approx(120.0)
    assert other is None


@pytest.mark.parametrize("damage", ["gone", "outdated"])
def test_a_damaged_neighbour_foretells_nothing_and_is_named_where_it_is_asked_for(tmp_path, damage):
    paths, other = create(tmp_path, "seed=1"), create(tmp_path, "seed=2")
    do(paths)
    paths.resolved.write_text("[" * 100_000)
    if damage == "gone":
        paths.spec.unlink()
    else:
        paths.spec.write_text("[schedule]\nthredas = 1\n")
    spec = spec_of(other)
    assert estimate(tmp_path, spec) is None
    with pytest.raises(DataError, match=f"settings of run {paths.root.name} cannot be read"):
        differences(tmp_path, paths.root.name, other.root.name)
