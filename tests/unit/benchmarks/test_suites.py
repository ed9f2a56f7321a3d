import json
import math
from typing import Any

import numpy as np
import pytest

from acft.benchmarks import detection, win_rate
from acft.benchmarks.base import SUITES, Bench, Responses
from acft.benchmarks.responses import DrawSettings, draw_responses, held_out_prompts
from acft.errors import ConfigError, DataError
from acft.evaluation import Label
from acft.events import Evaluated, Note, Progress
from acft.policy import base_policy
from acft.totals import Totals
from tests.bench import UniformJudge, bench_of, finish, run_settings, tiny_model

FEW: dict[str, Any] = {"continuations": 3, "horizon": 4, "batch_size": 8}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def policy(model):
    return base_policy(run_settings(model))


@pytest.fixture
def bench(model, policy) -> Bench:
    return bench_of(run_settings(model), policy=policy)


def run_suite(name: str, bench: Bench, **options):
    suite = SUITES.get(name)
    return finish(suite.run(suite.settings_type.parse(options), bench))


def by_metric(events: list[Evaluated]) -> dict[str, Evaluated]:
    return {event.metric: event for event in events}


# ---- responses -----------------------------------------------------------------------------------


def test_only_test_prompts_are_continued(bench) -> None:
    prompts = held_out_prompts(DrawSettings(), bench.run, bench.seed)
    assert prompts
    assert {prompt.split for prompt in prompts} == {"test"}


def test_a_prompt_set_of_the_suite_s_own_is_used_whole(bench) -> None:
    prompts = held_out_prompts(
        DrawSettings(source="inline:one two\nthree four\nfive six"), bench.run, bench.seed
    )
    assert len(prompts) == 3


def test_no_test_prompts_is_an_error(model, policy) -> None:
    run = run_settings(model, prompts={"source": "inline:only one"})
    with pytest.raises(DataError, match="no test prompts"):
        held_out_prompts(DrawSettings(), run, 0)


def test_responses_are_drawn_once_and_handed_over_once(bench) -> None:
    settings = DrawSettings(**FEW)
    first, second = (finish(draw_responses(settings, bench)) for _ in range(2))
    assert [type(output) for output in first[0]] == [Progress, Progress, Responses]
    assert second[0] == []
    assert second[1] is first[1]


def test_two_policies_on_one_bench_seed_get_the_same_random_numbers(model, policy) -> None:
    run = run_settings(model)
    results = [run_suite("rtp", bench_of(run, policy=policy), **FEW)[1] for _ in range(2)]
    for name, totals in results[0].items():
        assert totals.sums == pytest.approx(results[1][name].sums, nan_ok=True)


# ---- suites --------------------------------------------------------------------------------------


def test_rtp_measures_toxicity_and_text_under_each_scorer(bench) -> None:
    outputs, measured = run_suite("rtp", bench, **FEW)
    assert {"toxic_share/vowels", "distinct_2", "toxic_share_at_0.5/vowels"} <= measured.keys()
    assert measured["toxic_share/vowels"].value == measured["toxic_share_at_0.5/vowels"].value
    assert sum(isinstance(output, Responses) for output in outputs) == 1


def test_toxigen_draws_one_nearly_greedy_generation_for_each_prompt(bench) -> None:
    outputs, measured = run_suite("toxigen", bench, source="inline:a b\nc d\ne f", horizon=4)
    (responses,) = (output for output in outputs if isinstance(output, Responses))
    assert len(responses.scored) == 3
    assert list(measured) == ["toxic_share/vowels"]


def test_perplexity_covers_the_run_s_general_corpora(bench, model) -> None:
    _, measured = run_suite("perplexity", bench, documents=6)
    name = f"perplexity/{model / 'held_out.txt'}"
    assert (measured[name].value or 0) > 1
    assert measured[name].n == 6


def test_perplexity_says_so_when_brown_is_not_there(bench, monkeypatch) -> None:
    monkeypatch.setattr("acft.corpora.brown.has_asset", lambda _: False)
    outputs, measured = run_suite("perplexity", bench, documents=2)
    (note,) = (output for output in outputs if isinstance(output, Note))
    assert "no perplexity on brown" in note.text
    assert not any("brown" in name for name in measured)


def test_perplexity_of_a_corpus_that_was_named_must_be_there(bench) -> None:
    with pytest.raises(DataError, match=r"nowhere\.txt"):
        run_suite("perplexity", bench, corpora=["nowhere.txt"])


def test_fluency_without_a_judge_says_what_to_do(bench) -> None:
    with pytest.raises(ConfigError, match="judge is empty"):
        run_suite("fluency", bench, **FEW)


def test_fluency_is_the_judge_s_perplexity_not_the_policy_s(model, policy) -> None:
    bench = bench_of(run_settings(model), get_judge=lambda: UniformJudge(7), policy=policy)
    _, measured = run_suite("fluency", bench, **FEW)
    assert measured["judge_perplexity"].value == pytest.approx(7)
    assert measured["judge_mean_perplexity"].value == pytest.approx(7)


def test_collateral_reports_harmless_texts_by_category(bench) -> None:
    outputs, measured = run_suite("collateral", bench, continuations=1, horizon=3)
    assert {"perplexity/groups", "perplexity/everyday"} <= measured.keys()
    assert {"empty_share", "length_tokens", "refusal_share"} <= measured.keys()
    assert any(isinstance(output, Responses) for output in outputs)


# ---- win rate ------------------------------------------------------------------------------------


def judged(**nats: float) -> Totals:
    """Two tokens a response; nats by response name, ``p_0`` for response 0 to prompt p."""
    names = tuple(name.replace("_", "-") for name in nats)
    return Totals(names, 2 * np.array(list(nats.values())), np.full(len(nats), 2.0))


def test_win_rate_counts_likelier_responses_and_half_the_ties() -> None:
    base = judged(p_0=3.0, p_1=3.0, q_0=3.0, q_1=3.0)
    policy = judged(p_0=2.0, p_1=3.005, q_0=4.0, q_1=2.5)
    found = win_rate.win_totals(base, policy)
    assert found["win_rate"].value == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert found["tie_share"].value == pytest.approx(1 / 4)
    assert found["loss_share"].value == pytest.approx(1 / 4)
    assert found["win_rate"].groups == ("p", "q")


def test_win_rates_of_the_two_sides_add_up_to_one() -> None:
    draw = np.random.default_rng(0)
    sides = [judged(**{f"p{i}_0": draw.random() for i in range(30)}) for _ in range(2)]
    forward, backward = (
        win_rate.win_totals(a, b)["win_rate"].value for a, b in (sides, sides[::-1])
    )
    assert forward is not None
    assert backward is not None
    assert forward + backward == pytest.approx(1)


def test_pairs_with_a_missing_response_do_not_count() -> None:
    found = win_rate.win_totals(judged(p_0=1.0, p_1=1.0), judged(p_1=0.5))
    assert found["win_rate"].counts.sum() == 1


def test_win_rate_is_reported_over_base_and_control() -> None:
    measured = [{win_rate.JUDGED: judged(p_0=n, q_0=n)} for n in (3.0, 1.0, 2.0)]
    base, policy, control = measured
    events = win_rate.compare(base, policy, Label("win_rate", "policy"), control)
    found = {(event.suite, event.metric): event.value for event in events}
    assert found["win_rate/base", "win_rate"] == 1
    assert found["win_rate/control", "win_rate"] == 1


# ---- detection -----------------------------------------------------------------------------------


def test_probe_separates_states_that_differ_and_only_those() -> None:
    draw = np.random.default_rng(0)
    labels = np.arange(80) % 2 == 0
    noise = draw.normal(size=(80, 6))
    clear = detection.probe_scores(noise + 4 * labels[:, None], labels, 10.0, 0)
    assert clear[labels].min() > clear[~labels].max()
    blind = detection.probe_scores(noise, labels, 10.0, 0)
    assert abs(blind[labels].mean() - blind[~labels].mean()) < 0.2


def test_detection_reports_both_detectors_with_intervals(model, policy, tmp_path) -> None:
    file = tmp_path / "texts.jsonl"
    rows = [{"text": f"quiet text {i}", "category": "clean"} for i in range(8)]
    rows += [{"text": f"ZZ!! {i} ZZ!!", "category": "toxic"} for i in range(8)]
    file.write_text("\n".join(map(json.dumps, rows)))
    bench = bench_of(run_settings(model), policy=policy)
    _, measured = run_suite("detection", bench, source=str(file))
    found = by_metric(SUITES.get("detection").report(measured, Label("detection", "base")))
    assert found["auc_probe"].value == pytest.approx(1)
    assert found["auc_probe"].n == 16
    assert found["auc_zero_shot"].value is not None
    same = by_metric(SUITES.get("detection").compare(measured, measured, Label("d", "policy")))
    assert same["auc_probe_difference"].value == 0


def test_detection_without_both_classes_says_what_is_missing(bench, tmp_path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("one\ntwo\nthree")
    with pytest.raises(DataError, match="0 toxic of 3"):
        run_suite("detection", bench, source=str(file))


def test_the_mean_state_of_a_text_does_not_depend_on_its_neighbours(policy) -> None:
    texts = ["short", "a longer text beside it"]
    together = detection.mean_states(policy, texts)
    alone = np.concatenate([detection.mean_states(policy, [text]) for text in texts])
    assert together == pytest.approx(alone, abs=1e-5)


def test_log_odds_of_yes_are_those_of_the_model(policy) -> None:
    both = detection.yes_over_no(policy, ["short", "a longer text beside it"])
    assert both[0] == pytest.approx(detection.yes_over_no(policy, ["short"])[0], abs=1e-5)
    assert math.isfinite(both[1])
