"""Which checkpoint is preferred, and how the weight of the KL follows satisfaction."""

import dataclasses
import math

import pytest

from acft.errors import DataError
from acft.events import Progress
from acft.methods import acft as methods
from acft.methods.acft import AcftSettings, train
from acft.metrics.base import METRICS
from acft.training.outputs import Checkpoint, TrainContext
from acft.training.train_state import TrainState
from acft.training.validation import Validation, best_event, better
from tests.toy_runs import toy_run, world_of


def validation(satisfaction=0.5, toxic=0.2, perplexity: float | None = 10.0, round_index=1):
    return Validation(round_index, satisfaction, toxic, perplexity, 0.0)


BASE = validation(0.5, 0.2, 10.0)


@pytest.mark.parametrize(
    ("new", "best", "is_better"),
    [
        (validation(0.9), validation(0.8), True),
        (validation(0.8), validation(0.9), False),
        (validation(toxic=0.1), validation(toxic=0.2), True),
        (validation(0.9, perplexity=10.2), validation(0.8, perplexity=9.0), True),
        (validation(0.9, perplexity=11.0), validation(0.8, perplexity=10.2), False),
        (validation(0.6, perplexity=10.2), validation(0.9, perplexity=11.0), True),
        (validation(0.6, perplexity=11.0), validation(0.9, perplexity=12.0), True),
        (validation(0.9, perplexity=12.0), validation(0.6, perplexity=11.0), False),
        (validation(0.8, perplexity=9.9), validation(0.8, perplexity=10.1), True),
        (validation(0.8), validation(0.8), False),
        (validation(0.9, perplexity=None), validation(0.8, perplexity=None), True),
    ],
    ids=[
        "more satisfied", "less satisfied", "less toxic under the judges",
        "more satisfied within tolerance", "more satisfied beyond tolerance",
        "less satisfied, but the other is beyond tolerance", "both beyond, better perplexity",
        "both beyond, worse perplexity", "equal, better perplexity", "equal in all",
        "no documents for perplexity",
    ],
)  # fmt: skip
def test_lower_toxicity_is_preferred_where_utility_is_kept(new, best, is_better):
    assert better(new, best, [], BASE, tolerance=0.03) is is_better


def test_toxicities_closer_than_their_standard_error_are_equal():
    lucky = dataclasses.replace(validation(0.99, 0.05, 10.2), n_responses=96)
    later = dataclasses.replace(validation(0.97, 0.04, 9.8), n_responses=96)
    assert later.toxicity > lucky.toxicity
    assert better(later, lucky, [], BASE, tolerance=0.03)
    counted_well = dataclasses.replace(lucky, n_responses=9_600)
    assert not better(later, counted_well, [], BASE, tolerance=0.03)


def test_small_steps_do_not_add_up_to_a_large_one():
    rounds = [
        dataclasses.replace(validation(1 - t, t, 10.0 - i), n_responses=96)
        for i, t in enumerate((0.05, 0.065, 0.08, 0.10))
    ]
    best = rounds[0]
    for index, new in enumerate(rounds[1:], start=1):
        best = new if better(new, best, rounds[:index], BASE, tolerance=0.03) else best
    assert best.toxicity <= rounds[0].toxicity + rounds[0].standard_error
    assert best is rounds[1]


def test_the_standard_error_is_that_of_a_share_with_two_of_each_added():
    found = dataclasses.replace(validation(0.9, 0.1), n_responses=96)
    assert found.toxicity == pytest.approx(0.1)
    assert found.standard_error == pytest.approx(math.sqrt(0.116 * 0.884 / 100))
    assert dataclasses.replace(validation(1.0, 0.0), n_responses=96).standard_error > 0.01


def test_the_event_says_why():
    event = best_event(validation(0.9, 0.05, 10.5, round_index=4))
    assert event.round == 4
    assert event.reason == "satisfaction 0.900, toxic share 0.050, validation perplexity 10.50"


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    return TrainState(world_of(toy_run(tmp_path)), kl_weight=2.0)


def test_dual_ascent_raises_the_weight_by_what_is_missing(state):
    state.ascend(missing=0.1, rate=4.0, largest=100.0)
    assert state.kl_weight == pytest.approx(2.0 * math.exp(0.4))


def test_dual_ascent_lowers_the_weight_beyond_the_target(state):
    state.ascend(missing=-0.1, rate=4.0, largest=100.0)
    assert state.kl_weight == pytest.approx(2.0 * math.exp(-0.4))


def test_dual_ascent_stops_at_the_largest_weight(state):
    state.ascend(missing=1.0, rate=4.0, largest=5.0)
    assert state.kl_weight == 5.0


def test_a_stop_after_the_last_step_of_a_round_still_seals_it(tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    is_asked = []
    context = TrainContext(toy_run(tmp_path), should_stop=lambda: bool(is_asked))
    sealed = []
    for output in train(AcftSettings(), context):
        if isinstance(output, Progress) and output.phase == "fit_policy" and output.done == 3:
            is_asked.append(True)
        if isinstance(output, Checkpoint):
            sealed.append(output.round)
    assert sealed == [1]


def test_a_round_whose_oracle_was_cut_short_is_not_sealed(tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    run = toy_run(tmp_path, "oracle.rollouts_per_round=600", "oracle.validation_rollouts=32")
    is_asked = []
    context = TrainContext(run, should_stop=lambda: bool(is_asked))
    real, found = methods.oracle_job, []

    def asked_in_the_middle(world, oracle, policy, index, earlier, _, **options):
        """A stop that comes while the oracle still draws, and after the fit has ended."""
        job = real(world, oracle, policy, index, earlier, lambda: bool(is_asked), **options)
        while True:
            try:
                output = next(job)
            except StopIteration as end:
                is_asked.clear()
                found.append(end.value)
                return end.value
            is_asked.extend([True] if getattr(output, "phase", "") == "sample_oracle" else [])
            yield output

    monkeypatch.setattr(methods, "oracle_job", asked_in_the_middle)
    outputs = list(train(AcftSettings(), context))
    assert not found[0].is_whole
    assert not any(isinstance(output, Checkpoint) for output in outputs)


@pytest.fixture
def failing_metric(tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    own = dataclasses.replace(METRICS.get("distinct_1"), name="own", of_prompt=lambda *_: 1 / 0)
    monkeypatch.setitem(METRICS._items, "own", own)


@pytest.mark.usefixtures("failing_metric")
def test_a_metric_that_fails_does_so_before_anything_is_trained(tmp_path):
    run, seen = toy_run(tmp_path, "evaluation.test_prompts=4"), []
    with pytest.raises(DataError, match="metric 'own' failed"):
        seen.extend(train(AcftSettings(), TrainContext(run)))
    phases = {output.phase for output in seen if isinstance(output, Progress)}
    assert "validate" in phases
    assert not any(phase.startswith("fit") for phase in phases)


@pytest.mark.usefixtures("failing_metric")
def test_a_run_that_asks_no_metric_does_not_fail_by_one(tmp_path):
    run = toy_run(tmp_path, "evaluation.test_prompts=0")
    outputs = list(train(AcftSettings(), TrainContext(run)))
    assert any(isinstance(output, Checkpoint) for output in outputs)
