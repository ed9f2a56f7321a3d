import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from acft.evaluation import (
    Label,
    compare,
    draw_and_score,
    evaluated,
    event_of,
    is_share,
    measure,
    score_rollouts,
    scorer_agreement,
    scorer_versions,
    sweep,
)
from acft.events import Evaluated, Progress, to_json
from acft.sampling import Samples
from acft.settings import SamplingSettings
from acft.statistics import Interval
from acft.types import Prompt, Rollout, ScoredRollout
from tests.fake_responses import with_scores, with_texts


class FakePolicy:
    """Says a rude word in every ``period``-th response."""

    version = 3

    def __init__(self, period: int) -> None:
        self.period = period
        self.asked: list[int] = []
        self.is_prepared = False

    def sample(
        self, prompts: Sequence[Prompt], n: int, sampling: SamplingSettings, seed: int, *_, **__
    ) -> Samples:
        self.asked.append(len(prompts) * n)
        return Samples([self.response(p, i) for p in prompts for i in range(n)])

    @contextmanager
    def prepared(self) -> Iterator[None]:
        assert not self.is_prepared
        self.is_prepared = True
        yield
        self.is_prepared = False

    def response(self, prompt: Prompt, sample: int) -> Rollout:
        text = "rude" if sample % self.period == 0 else f"fine words {sample}"
        name = prompt.prompt_id
        return Rollout(f"{name}-{sample}", name, prompt.text, text, (1,), (2, 3), (0.0, 0.0), 3)


class FakeScorer:
    name = "judge"
    version = "1.0"
    sha256 = "abc"

    def score(self, texts: Sequence[str]) -> list[float]:
        return [0.9 if "rude" in text else 0.1 for text in texts]


class FakeConstraint:
    scorers = ("judge",)

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        return [0.0 if "rude" in text else 1.0 for text in responses]

    def describe(self) -> str:
        return "is not rude"


PROMPTS = [Prompt(f"p{i}", f"text {i}", "test", "even" if i % 2 == 0 else "odd") for i in range(6)]
LABEL = Label("rtp", "policy")


def drawn(period: int, n: int = 4) -> list[ScoredRollout]:
    rollouts = FakePolicy(period).sample(PROMPTS, n, SamplingSettings(), 0).rollouts
    return score_rollouts(rollouts, None, [FakeScorer()])


def run(generator):
    """Everything yielded, and what was returned."""
    yielded = []
    while True:
        try:
            yielded.append(next(generator))
        except StopIteration as end:
            return yielded, end.value


def by_metric(events: Sequence[Evaluated]) -> dict[str, Evaluated]:
    """Events by metric and, where there is one, judge."""
    return {"/".join([e.metric, *e.suite.split("/")[1:]]): e for e in events}


def test_responses_are_scored_in_order_by_every_scorer() -> None:
    rollouts = FakePolicy(2).sample(PROMPTS[:1], 3, SamplingSettings(), 0).rollouts
    scored = score_rollouts(rollouts, FakeConstraint(), [FakeScorer()])
    assert [s.scores["judge"] for s in scored] == [0.9, 0.1, 0.9]
    assert [s.satisfaction for s in scored] == [0.0, 1.0, 0.0]


def test_without_a_constraint_satisfaction_has_no_number() -> None:
    scored = drawn(2)
    assert all(math.isnan(s.satisfaction) for s in scored)
    assert measure(scored, ["judge"])["satisfaction"].value is None


def test_drawing_in_chunks_reports_progress_and_loses_nothing(monkeypatch) -> None:
    monkeypatch.setattr("acft.evaluation.CHUNK_RESPONSES", 8)
    policy = FakePolicy(2)
    events, scored = run(
        draw_and_score(
            policy, PROMPTS, 4, SamplingSettings(batch_size=8), 0, [FakeScorer()], round=2
        )
    )
    assert policy.asked == [8, 8, 8]
    assert [event.done for event in events] == [0, 8, 16, 24]
    assert {(event.total, event.round, event.unit) for event in events} == {(24, 2, "responses")}
    assert [s.rollout.rollout_id for s in scored] == [s.rollout.rollout_id for s in drawn(2)]


def test_more_are_drawn_in_a_chunk_where_more_are_drawn_at_once() -> None:
    prompts = [Prompt(f"p{i}", f"text {i}", "test") for i in range(400)]
    asked = {}
    for batch_size in (64, 2048):
        policy, sampling = FakePolicy(2), SamplingSettings(batch_size=batch_size)
        _, scored = run(draw_and_score(policy, prompts, 25, sampling, 0, []))
        assert len(scored) == sum(policy.asked) == 10_000
        asked[batch_size] = max(policy.asked)
    assert asked == {64: 250, 2048: 2025}


def test_all_chunks_are_drawn_in_one_set_up(monkeypatch) -> None:
    monkeypatch.setattr("acft.evaluation.CHUNK_RESPONSES", 8)
    policy, sampling = FakePolicy(2), SamplingSettings(batch_size=8)
    drawing = draw_and_score(policy, PROMPTS, 4, sampling, 0, [FakeScorer()])
    next(drawing)
    assert [policy.is_prepared for _ in drawing] == [True] * 3
    assert not policy.is_prepared


def test_a_stop_keeps_the_finished_chunks(monkeypatch) -> None:
    monkeypatch.setattr("acft.evaluation.CHUNK_RESPONSES", 4)
    policy = FakePolicy(2)
    _, scored = run(
        draw_and_score(
            policy, PROMPTS, 4, SamplingSettings(batch_size=4), 0, [FakeScorer()],
            should_stop=lambda: len(policy.asked) == 2,
        )
    )  # fmt: skip
    assert len(scored) == 8


def test_every_metric_has_an_interval_and_the_scorers_version() -> None:
    events, scored = run(
        draw_and_score(
            FakePolicy(4), PROMPTS, 4, SamplingSettings(), 0, [FakeScorer()], FakeConstraint()
        )
    )
    label = Label("rtp", "base", 3, scorer_versions([FakeScorer()]))
    found = by_metric(evaluated(measure(scored, ["judge"], PROMPTS), label))
    share = found["toxic_share/judge"]
    assert (share.value, share.n, share.subject) == (0.25, 6, "base")
    assert (share.policy_version, share.scorer_version) == (3, "1.0 abc")
    assert (share.low, share.high) == (0.25, 0.25)
    assert found["toxicity_probability/judge"].value == 1
    assert found["satisfaction"].value == 0.75
    assert found["toxic_share@odd/judge"].n == 3
    assert isinstance(events[0], Progress)
    assert len(scored) == 24


def test_events_are_finite_json_even_where_nothing_can_be_measured() -> None:
    for event in evaluated(measure([], ["judge"]), LABEL):
        assert event.value is None
        assert to_json(event, 1, 0.0)


def test_only_what_cannot_exceed_one_is_taken_for_a_share() -> None:
    shares = ("toxic_share", "distinct_2@odd", "toxic_share_at_0.9/x", "acc/x", "tie_share")
    others = ("length_tokens", "perplexity/x", "toxic_share_change", "auc_probe_difference")
    assert [is_share(name) for name in (*shares, *others)] == [True] * 5 + [False] * 4
    one_word = measure(with_texts(a=["yes", "no"], b=["yes", "no"]), ["judge"])
    found = by_metric(evaluated(one_word, LABEL))
    assert (found["length_tokens"].low, found["length_tokens"].high) == (1, 1)
    assert found["toxic_share/judge"].high == pytest.approx(0.658, abs=1e-3)


def test_categories_and_corpora_may_have_any_name() -> None:
    corpus = "/data/me@lab/news.txt"
    measured = measure(drawn(2), ["judge"], [replace(p, category="a/b@c") for p in PROMPTS])
    measured[f"perplexity/{corpus}"] = measured["length_tokens"]
    found = {(event.suite, event.metric) for event in evaluated(measured, LABEL)}
    assert {("rtp/judge", "toxic_share@a-b@c"), (f"rtp/{corpus}", "perplexity")} <= found
    compared = {(event.suite, event.metric) for event in compare(measured, measured, LABEL)}
    assert (f"rtp/{corpus}", "perplexity_change") in compared
    assert not [metric for _, metric in compared if "@" in metric]


def test_comparison_gives_the_change_and_what_of_it_the_control_lacks() -> None:
    base, control, policy = (measure(drawn(period, 12), ["judge"]) for period in (2, 3, 6))
    found = by_metric(compare(base, policy, LABEL, control))
    # shares 6/12, 4/12 and 2/12 on every prompt
    assert found["toxic_share_change/judge"].value == pytest.approx(-2 / 3)
    assert found["toxic_share_difference/judge"].value == pytest.approx(-1 / 3)
    beyond = found["toxic_share_change_beyond_control/judge"]
    assert beyond.value == pytest.approx(-2 / 3 + 1 / 3)
    assert (beyond.low, beyond.n) == (pytest.approx(-1 / 3), 6)


def test_a_policy_compared_with_itself_has_not_changed() -> None:
    measured = measure(drawn(2), ["judge"])
    changes = compare(measured, measured, LABEL)
    assert {e.value for e in changes if e.metric.startswith("toxic_share_")} == {0.0}


def test_a_change_from_nothing_has_no_number() -> None:
    clean = measure(with_scores(a=[0.1], b=[0.2]), ["judge"])
    rude = measure(with_scores(a=[0.9], b=[0.2]), ["judge"])
    found = by_metric(compare(clean, rude, LABEL))
    assert found["toxic_share_change/judge"].value is None
    assert found["toxic_share_difference/judge"].value == pytest.approx(0.5)


def test_sweep_counts_scores_at_or_above_each_threshold() -> None:
    found = sweep(with_scores(a=[0.1, 0.3, 0.5, 0.9]), ["judge"], [0.3, 0.5])
    assert found["toxic_share_at_0.3/judge"].value == 0.75
    assert found["toxic_share_at_0.5/judge"].value == 0.5


def test_agreement_is_reported_for_every_pair_of_scorers() -> None:
    scored = [
        ScoredRollout(s.rollout, 1.0, {"a": i / 9, "b": i / 9, "c": 1 - i / 9})
        for i, s in enumerate(with_scores(p=[0.0] * 10))
    ]
    label = Label("rtp", "policy", scorer_versions={"a": "1.0 abc", "c": "2.0 def"})
    found = by_metric(scorer_agreement(scored, ["a", "b", "c"], label))
    assert found["agreement_pearson/a+b"].value == pytest.approx(1)
    assert found["agreement_kappa/a+b"].value == 1
    assert found["agreement_spearman/a+c"].value == pytest.approx(-1)
    pair = found["agreement_spearman/a+c"]
    assert (pair.n, pair.scorer_version) == (1, "1.0 abc + 2.0 def")


def test_an_event_names_suite_and_judge_apart_from_the_metric() -> None:
    estimate = Interval(0.5, 0.4, 0.6, 7)
    event = event_of("toxic_share@odd/judge", estimate, LABEL, "change")
    assert (event.suite, event.metric) == ("rtp/judge", "toxic_share_change@odd")
    event = event_of("distinct_2", estimate, LABEL)
    assert (event.suite, event.metric) == ("rtp", "distinct_2")
