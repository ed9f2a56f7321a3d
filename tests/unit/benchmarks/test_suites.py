import json
import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from acft.backbone.forward import head_weight
from acft.benchmarks import detection, win_rate
from acft.benchmarks.base import SUITES, Bench, Responses
from acft.benchmarks.perplexity import PerplexitySettings
from acft.benchmarks.responses import DrawSettings, draw_responses, held_out_prompts
from acft.corpora.sources import source_problem
from acft.data import load_documents, load_prompts
from acft.decoding.base import DecodedJudge, DecodedPolicy
from acft.errors import ConfigError, DataError, ModelError
from acft.evaluation import Label
from acft.events import Evaluated, Note, Progress
from acft.policy import base_policy
from acft.settings import CorpusSettings, PromptSettings
from acft.statistics import auc, wilson
from acft.totals import Totals
from acft.types import Prompt
from tests.bench import (
    FailingScorer,
    Power,
    UniformJudge,
    VowelScorer,
    bench_of,
    finish,
    run_settings,
    tiny_model,
)
from tests.fakes import ByteTokenizer

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


def report(name: str, measured) -> list[Evaluated]:
    return SUITES.get(name).report(measured, Label(name, "base"))


class FailingOn(FailingScorer):
    """Fails on texts that begin in one way."""

    def __init__(self, beginning: str) -> None:
        self.beginning = beginning

    def score(self, texts: Sequence[str]) -> list[float]:
        is_hit = any(text.startswith(self.beginning) for text in texts)
        return super().score(texts) if is_hit else [0.0] * len(texts)


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
    (sentence,) = SUITES.get("perplexity").left_out(PerplexitySettings(), bench.run)
    assert sentence == note.text, "told before too"


def test_a_corpus_of_the_run_is_read_by_its_columns_when_it_is_named(model, policy) -> None:
    file = model / "answers.jsonl"
    rows = [{"question": f"How deep is it, number {i}?", "answer": f"{i} feet."} for i in range(60)]
    file.write_text("\n".join(map(json.dumps, rows)))
    corpus = {"source": str(file), "prompt_field": "question", "text_field": "answer"}
    bench = bench_of(run_settings(model, corpus=[corpus]), policy=policy)
    usual, named = (
        run_suite("perplexity", bench, documents=20, corpora=corpora)[1]
        for corpora in ([], [str(file)])
    )
    assert named[f"perplexity/{file}"].groups == usual[f"perplexity/{file}"].groups


def test_a_corpus_that_is_named_is_read_whole_however_little_the_run_takes(model) -> None:
    file = str(model / "held_out.txt")
    capped = run_settings(model, corpus=[{"source": file, "max_documents": 2}])
    (corpus,) = SUITES.get("perplexity").reads(PerplexitySettings(corpora=(file,)), capped)
    assert isinstance(corpus, CorpusSettings)
    documents = [
        load_documents(asked, 0)["test"] for asked in (corpus, CorpusSettings(source=file))
    ]
    assert documents[0] == documents[1]
    assert len(documents[0]) > 2


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


def test_collateral_says_how_much_higher_a_scorer_scores_texts_about_groups(bench) -> None:
    class Biased(VowelScorer):
        def score(self, texts: Sequence[str]) -> list[float]:
            return [0.9 if of_groups(t) else 0.1 + 0.001 * len(t) for t in texts]

    texts = load_prompts(PromptSettings(source="neutral"), 0)
    kinds = {text.text: text.category for text in texts}
    bench.judges = [Biased()]
    lengths = [len(text) for text, kind in kinds.items() if kind == "everyday"]

    def of_groups(text: str) -> bool:
        return kinds.get(text) == "groups"

    _, measured = run_suite("collateral", bench, continuations=1, horizon=3)
    found = {event.metric: event for event in report("collateral", measured)}
    bias = found["group_bias"]
    assert (bias.suite, bias.n) == ("collateral/vowels", len(kinds))
    assert bias.value == pytest.approx(0.8 - 0.001 * fmean(lengths))
    assert bias.value is not None
    assert bias.low is not None
    assert bias.high is not None
    assert 0.0 < bias.value - bias.low < 0.01 > bias.high - bias.value > 0.0
    assert found["text_toxicity@groups"].value == pytest.approx(0.9)
    assert found["text_toxic_share@groups"].value == 1.0
    assert found["text_toxic_share@everyday"].value == 0.0
    assert found["text_toxic_share@everyday"].n == len(lengths)


def test_texts_without_groups_have_no_group_bias(bench) -> None:
    _, measured = run_suite("collateral", bench, source="inline:a b\nc d", continuations=1)
    assert not any("text_" in name for name in measured)
    assert "group_bias" not in by_metric(report("collateral", measured))


def test_a_scorer_that_fails_on_harmless_texts_is_asked_no_more(bench) -> None:
    bench.judges = [VowelScorer(), FailingOn("The rabbi welcomed")]
    _, measured = run_suite("collateral", bench, continuations=1, horizon=3)
    assert [*bench.failed] == ["broken"]
    assert not any(name.startswith("text_") and name.endswith("broken") for name in measured)
    assert "text_toxicity@groups/vowels" in measured


def test_no_likelihood_is_told_of_a_decoder_that_cannot_say_it(bench) -> None:
    bench.sampler = DecodedPolicy(bench.policy, Power())
    outputs, measured = run_suite("collateral", bench, continuations=1, horizon=3)
    assert not any("perplexity" in found for found in measured)
    (note,) = (output for output in outputs if isinstance(output, Note))
    assert "no perplexity for base: its decoder does not say" in note.text


@pytest.mark.parametrize("name", SUITES.names())
def test_what_a_suite_cannot_measure_of_a_decoded_policy_is_told(bench, name) -> None:
    suite, of_texts, of_policy = SUITES.get(name), {"perplexity", "harness"}, {"detection"}
    assert suite.why_not(bench) == ""
    bench.sampler = DecodedPolicy(bench.policy, Power())
    assert bool(suite.why_not(bench)) == (name in of_texts | of_policy)
    bench.sampler = DecodedJudge(bench.policy, Power())
    assert bool(suite.why_not(bench)) == (name in of_policy)


def test_perplexity_of_a_decoded_policy_is_that_of_what_it_draws_from(bench) -> None:
    plain = values_of(run_suite("perplexity", bench))
    assert plain
    bench.sampler = DecodedJudge(bench.policy, Power())
    assert values_of(run_suite("perplexity", bench)) == pytest.approx(plain, rel=1e-5)
    bench.sampler = DecodedJudge(bench.policy, Power(1e-6))
    blunt = values_of(run_suite("perplexity", bench))
    of_corpora = [value for name, value in blunt.items() if name.startswith("perplexity/")]
    n_tokens = len(head_weight(bench.policy.backbone.model))
    assert of_corpora == pytest.approx([n_tokens] * len(of_corpora), rel=1e-4)


def values_of(result) -> dict[str, float]:
    return {name: totals.value for name, totals in result[1].items()}


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


def test_an_empty_response_loses_against_any_other_and_two_tie() -> None:
    names = ("p-0", "p-1", "q-0")
    base = Totals(names, np.array([2.0, 0, 0]), np.array([2.0, 0, 0]))
    policy = Totals(names, np.array([0.0, 2, 0]), np.array([0.0, 2, 0]))
    found = win_rate.win_totals(base, policy)
    assert [found[name].sums.tolist() for name in ("loss_share", "win_share", "tie_share")] == [
        [1, 0], [1, 0], [0, 1],
    ]  # fmt: skip
    mostly_empty = Totals(names, np.array([1.0, 0, 0]), np.array([2.0, 0, 0]))
    all_there = Totals(names, np.array([2.0, 2, 2]), np.array([2.0, 2, 2]))
    found = win_rate.win_totals(all_there, mostly_empty)
    assert found["win_rate"].value == pytest.approx(1 / 3)


def test_every_response_is_in_the_measurement_that_win_rates_are_made_of(model, policy) -> None:
    bench = bench_of(run_settings(model), get_judge=lambda: UniformJudge(7), policy=policy)
    outputs, measured = run_suite("win_rate", bench, **FEW)
    (responses,) = (output for output in outputs if isinstance(output, Responses))
    scored = {item.rollout.rollout_id: item.rollout for item in responses.scored}
    judged = measured[win_rate.JUDGED]
    assert {*judged.groups} == {*scored}
    for name, count in zip(judged.groups, judged.counts, strict=True):
        assert (count > 0) == bool(scored[name].response_text)


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


def detected(probe: list[float]) -> dict[str, Totals]:
    columns = {"label": [0.0, 1.0] * (len(probe) // 2), "probe": probe, "zero_shot": probe}
    names, ones = tuple(map(str, range(len(probe)))), np.ones(len(probe))
    return {name: Totals(names, np.array(values), ones) for name, values in columns.items()}


def test_two_detectors_without_an_error_are_not_known_to_be_equal() -> None:
    perfect = detected([0.1, 0.9] * 10)
    found = by_metric(SUITES.get("detection").compare(perfect, perfect, Label("d", "policy")))
    bound = wilson(10, 10).low
    assert bound is not None
    event = found["auc_probe_difference"]
    assert (event.value, event.n) == (0, 20)
    assert (event.low, event.high) == (pytest.approx(bound - 1), pytest.approx(1 - bound))


def test_detection_compares_with_the_control_too() -> None:
    rng = np.random.default_rng(0)
    base, control, policy = (
        detected([shift * (i % 2) + value for i, value in enumerate(rng.random(40))])
        for shift in (0.2, 0.3, 0.6)
    )
    compare = SUITES.get("detection").compare
    found = by_metric(compare(base, policy, Label("d", "policy"), control))
    labels = base["label"].sums
    aucs = [auc(side["probe"].sums, labels) or math.nan for side in (base, control, policy)]
    assert found["auc_probe_difference"].value == pytest.approx(aucs[2] - aucs[0])
    beyond = found["auc_probe_change_beyond_control"]
    assert beyond.value == pytest.approx((aucs[2] - aucs[1]) / aucs[0])
    assert beyond.low is not None
    assert "auc_probe_change_beyond_control" not in by_metric(
        compare(base, policy, Label("d", "policy"))
    )


def test_an_auc_over_one_run_is_compared_as_its_texts_alone_say() -> None:
    """Golden: positives 3, 1 against negatives 2, 1 give 2.5 / 4; 3, 2 against 1, 0 give 4 / 4."""
    first, second = detected([2.0, 3.0, 1.0, 1.0]), detected([1.0, 3.0, 0.0, 2.0])
    found = detection.difference("auc_probe", [first], [second])
    assert found.value == pytest.approx(4 / 4 - 2.5 / 4)
    both = detection.difference("auc_probe", [first, second], [second, second])
    assert both.value == pytest.approx(1 - (2.5 / 4 + 1) / 2)


def test_detection_takes_a_seed_of_more_bits_than_scikit_learn_does(
    model, policy, tmp_path
) -> None:
    file = tmp_path / "texts.jsonl"
    rows = [{"text": f"text {i}", "category": "toxic" if i % 2 else "none"} for i in range(20)]
    file.write_text("\n".join(map(json.dumps, rows)))
    bench = bench_of(run_settings(model), policy=policy, seed=2**40)
    _, measured = run_suite("detection", bench, source=str(file))
    assert measured["probe"].n == 20


def test_states_that_no_probe_can_be_trained_on_fail_the_suite_alone() -> None:
    states = np.random.default_rng(0).normal(size=(20, 3))
    states[3] = math.nan
    with pytest.raises(ModelError, match=r"probe .* cannot be trained: .*NaN"):
        detection.probe_scores(states, np.arange(20) % 2 == 0, 1.0, 0)


def test_detection_without_both_classes_says_what_is_missing(bench, tmp_path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("one\ntwo\nthree")
    with pytest.raises(DataError, match="0 toxic of 3"):
        run_suite("detection", bench, source=str(file))


def test_detection_without_a_source_reads_test_prompts_only(model, policy) -> None:
    prompts = [f"{('aeiou', 'rhythm')[i % 2] * 9} {i}" for i in range(80)]
    run = run_settings(model, prompts={"source": "inline:" + "\n".join(prompts)})
    bench = bench_of(run, policy=policy)
    orders = []
    for bench.seed in (0, 1):
        seen, labels = detection.labelled_texts(detection.DetectionSettings(), bench)
        assert {prompt.split for prompt in seen} == {"test"}
        assert labels.tolist() == [prompt.text.startswith("a") for prompt in seen]
        orders.append([prompt.prompt_id for prompt in seen])
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1], "the first of them are a seeded choice"


def test_detection_chooses_among_all_texts_of_a_source(bench, tmp_path) -> None:
    file = tmp_path / "texts.jsonl"
    rows = [{"text": f"text {i}", "category": ["clean", "toxic"][i // 40]} for i in range(80)]
    file.write_text("\n".join(map(json.dumps, rows)))
    chosen = detection.DetectionSettings(source=str(file), texts=40)
    _, labels = detection.labelled_texts(chosen, bench)
    assert 10 < labels.sum() < 30, "a file sorted by category gives both"


def test_labelled_texts_are_in_the_usual_column_whatever_that_of_the_run_s_prompts(
    model, policy, tmp_path
) -> None:
    labelled, prompts = tmp_path / "texts.jsonl", tmp_path / "prompts.jsonl"
    rows = [{"text": f"text {i}", "category": ["clean", "toxic"][i // 40]} for i in range(80)]
    labelled.write_text("\n".join(map(json.dumps, rows)))
    own = [{"question": row["text"], "category": row["category"]} for row in rows]
    prompts.write_text("\n".join(map(json.dumps, own)))
    asked = {"source": str(prompts), "text_field": "question"}
    bench = bench_of(run_settings(model, prompts=asked), policy=policy)
    suite = SUITES.get("detection")
    for source, n_texts in ((str(labelled), 80), (str(prompts), len(held_out(bench)))):
        chosen = detection.DetectionSettings(source=source)
        assert len(detection.labelled_texts(chosen, bench)[0]) == n_texts
        (read,) = suite.reads(chosen, bench.run)
        assert source_problem("here", read) == ""


def held_out(bench: Bench) -> list[Prompt]:
    """Test prompts of the run."""
    return held_out_prompts(DrawSettings(), bench.run, bench.seed)


def test_detection_without_a_source_and_without_scorers_says_what_to_name(bench) -> None:
    bench.judges = []
    with pytest.raises(ConfigError, match=r"\[evaluation\] scorers.*detection\] source"):
        detection.labelled_texts(detection.DetectionSettings(), bench)


class Words:
    """A tokenizer that knows few words."""

    def __init__(self, *known: str) -> None:
        self.known = known

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        words = text.replace(":", " :").split()
        return [self.known.index(word) if word in self.known else 99 for word in words]


def test_the_answers_are_told_apart_by_the_first_token_that_differs() -> None:
    assert detection.answer_tokens(ByteTokenizer()) == ((ord(" "),), ord("y"), ord("n"))
    assert detection.answer_tokens(Words("Answer", ":", "yes", "no")) == ((), 2, 3)


def test_a_tokenizer_that_writes_both_answers_alike_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"does not tell apart \(tokens \[0, 1, 99\]"):
        detection.answer_tokens(Words("Answer", ":"))


@pytest.mark.parametrize("name", sorted(SUITES.names()))
def test_a_stop_before_the_first_response_or_text_ends_every_suite(model, policy, name) -> None:
    bench = bench_of(
        run_settings(model), get_judge=lambda: UniformJudge(7), subject="policy", policy=policy,
        should_stop=lambda: True,
    )  # fmt: skip
    questions, labelled = model / "questions.jsonl", model / "labelled.jsonl"
    question = {"question": "Is it wet?", "choices": ["yes", "no"], "answer": 0}
    questions.write_text(json.dumps(question))
    rows = [{"text": f"text {i}", "category": ["clean", "toxic"][i % 2]} for i in range(80)]
    labelled.write_text("\n".join(map(json.dumps, rows)))
    options = {
        "harness": {"files": [str(questions)]},
        "detection": {"source": str(labelled)},
        "toxigen": {"source": str(model / "held_out.txt")},
    }
    suite = SUITES.get(name)
    finish(suite.run(suite.settings_type.parse(options.get(name, {})), bench))


@pytest.mark.parametrize("name", ["detection", "fluency"])
def test_a_stop_ends_a_suite_in_the_middle(model, policy, tmp_path, name) -> None:
    file = tmp_path / "texts.jsonl"
    rows = [{"text": f"text {i}", "category": ["clean", "toxic"][i % 2]} for i in range(80)]
    file.write_text("\n".join(map(json.dumps, rows)))
    judge = UniformJudge(7)
    bench = bench_of(run_settings(model), get_judge=lambda: judge, policy=policy)
    options = FEW if name == "fluency" else {"source": str(file)}
    finish(draw_responses(DrawSettings(**FEW), bench))
    bench.should_stop = lambda: True
    outputs, _ = run_suite(name, bench, **options)
    assert not any(isinstance(output, Progress) for output in outputs)
    assert judge.batches == []


def test_the_mean_state_of_a_text_does_not_depend_on_its_neighbours(policy) -> None:
    texts = ["short", "a longer text beside it"]
    together = detection.mean_states(policy, texts)
    alone = np.concatenate([detection.mean_states(policy, [text]) for text in texts])
    assert together == pytest.approx(alone, abs=1e-5)


def test_log_odds_of_yes_are_those_of_the_model(policy) -> None:
    both = detection.yes_over_no(policy, ["short", "a longer text beside it"])
    assert both[0] == pytest.approx(detection.yes_over_no(policy, ["short"])[0], abs=1e-5)
    assert math.isfinite(both[1])
