"""What the pages say about runs that measure, without a browser."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from acft.benchmarks.base import SUITES
from acft.events import Evaluated, Note, Progress
from acft.runs.status import RunState
from acft.ui.pages import about, compare, tradeoff
from acft.ui.pages import run as run_page
from acft.ui.pages import runs as runs_page
from acft.ui.parts import measuring as measuring_part
from acft.ui.parts import results, run_facts, run_head
from acft.ui.reading import conditions, quantities
from acft.ui.reading.measuring import being_measured
from acft.ui.reading.pairs import Subject
from acft.ui.reading.reader import History, Run
from acft.ui.web.dom import text_of
from tests.ui import synthetic
from tests.ui.conftest import CONTROL, LIVE, QUICK, make_bench, visit

BOTH = {"base": {}, "policy": {}}
CHANGE = Evaluated("rtp", "satisfaction_change", "policy", 19.2, 8, low=10.0, high=30.5,
                   policy_version=2)  # fmt: skip


def evaluation(run, suites=("rtp",), subjects=None, evaluations=(), state="finished", **options):
    """The run as an evaluation of these suites, with what is recorded when one starts."""
    method = {"name": "evaluate", "suites": [*suites], "subjects": subjects or BOTH, "seed": 7,
              "options": options}  # fmt: skip
    return replace(
        run,
        status=replace(run.status, kind="evaluation", state=state, rounds=len(suites) * 2, steps=0),
        state=RunState(state),
        settings={**run.settings, "method": method, "evaluation": {"scorers": ["jigsaw_tcc"]}},
        history=replace(run.history, evaluations=[*evaluations]),
        facts=run.facts | {"drawings": dict(drawings(suites, options))},
    )


def drawings(suites, options):
    for name in suites:
        suite = SUITES.get(name)
        if suite.drawing is not None:
            chosen = suite.settings_type.parse(options.get(name, {}))
            yield name, suite.drawing(chosen).model_dump(mode="json")


@pytest.fixture
def quick(bench) -> Run:
    return bench.reader.run(QUICK)


def texts(bench, run):
    return text_of(run_page.texts(bench, visit(run.run_id), run))


# ---- conditions ------------------------------------------------------------------------------


def test_conditions_of_an_evaluation_are_those_of_its_suites(quick):
    own = conditions.conditions(quick)
    shown = conditions.conditions(
        evaluation(quick, rtp={"source": "my/prompts.jsonl", "horizon": 30, "top_p": 0.5})
    )
    assert shown["prompts"] == "my/prompts.jsonl"
    assert (shown["horizon"], shown["top-p"]) == ("30 tokens", "0.5")
    assert shown["seed"] == "7, of the evaluation"
    assert shown.keys() == own.keys()
    unset = conditions.conditions(evaluation(quick))
    assert (unset["prompts"], unset["horizon"]) == (own["prompts"], "20 tokens")


def test_a_policy_whose_decoder_has_another_nucleus_is_named_beside_it(quick):
    run = evaluation(quick)
    run.facts["drawings"]["rtp"]["top_p_of"] = {"policy": 1.0}
    assert conditions.conditions(run)["top-p"] == "0.9, 1 of policy"
    run.facts["drawings"]["rtp"]["top_p_of"] = "damaged"
    assert conditions.conditions(run)["top-p"] == "0.9"


def test_both_sides_of_an_evaluation_prove_which_weights_answered(quick):
    policies = [{"name": "policy", "version": "3", "sha256": "cd" * 32}]
    measured = replace(evaluation(quick), facts={"model_sha256": "ab" * 32, "policies": policies})
    assert conditions.weight_hash(measured, Subject("base", 0)) == "ab" * 32
    assert conditions.weight_hash(measured, Subject("policy", 3)) == "cd" * 32
    assert conditions.weight_hash(measured, Subject("control", 3)) == ""


def test_different_options_are_different_conditions(quick):
    first, second = (evaluation(quick, rtp={"horizon": horizon}) for horizon in (20, 30))
    assert not conditions.same_conditions(first, second)
    assert conditions.same_conditions(first, evaluation(quick))
    assert not conditions.same_conditions(first, quick)


def test_prompts_that_only_one_side_has_do_not_count(quick):
    one, both = (
        evaluation(quick),
        evaluation(quick, ("rtp", "collateral"), collateral={"horizon": 9}),
    )
    assert conditions.same_conditions(one, both)
    shown = conditions.conditions(both)
    assert "neutral" in shown["prompts"]
    assert "9 tokens (neutral)" in shown["horizon"]


def judged(run, revision="", **versions):
    """The run with a revision of its model, judged by versions of scorers."""
    scorers = [{"name": n, "version": v, "sha256": "ab" * 32} for n, v in versions.items()]
    settings = run.settings | {"model": {"name": "m", "revision": revision}}
    return replace(run, settings=settings, facts=run.facts | {"scorers": scorers})


def test_runs_judged_by_other_versions_of_a_scorer_are_not_alike(quick):
    first, second = judged(quick, detoxify="0.5.2"), judged(quick, detoxify="0.5.4")
    assert not conditions.same_conditions(first, second)
    assert conditions.conditions(first, second)["scorers"] == "detoxify 0.5.2 abababab"
    facts = {"scorers": [{"name": "detoxify", "version": "0.5.2", "sha256": "cd" * 32}]}
    assert not conditions.same_conditions(first, replace(first, facts=facts))


def test_scorers_that_only_one_side_has_or_nobody_recorded_are_no_difference(quick):
    one, both = judged(quick, a="1"), judged(quick, b="7", a="1")
    assert conditions.same_conditions(one, both)
    assert conditions.conditions(both)["scorers"] == "a 1 abababab, b 7 abababab"
    old = judged(quick)
    assert conditions.same_conditions(old, both)
    assert conditions.conditions(both, old)["scorers"] == "not recorded"
    nonsense = replace(quick, facts={"scorers": [3, {"version": 1}]})
    assert conditions.conditions(nonsense)["scorers"] == "? 1"


def test_other_revisions_of_a_model_are_other_conditions(quick):
    first, second = judged(quick, "v1", a="1"), judged(quick, "", a="1")
    assert not conditions.same_conditions(first, second)
    assert conditions.conditions(second)["revision"] == "none named"


def test_a_badge_names_revision_adapter_and_device(quick):
    run = judged(replace(quick, status=replace(quick.status, device="cuda:1")), "v1")
    lora, full = (
        replace(run, settings=run.settings | {"adapter": {"kind": kind, "rank": 8}})
        for kind in ("lora", "full")
    )
    tuned = text_of(conditions.identity(lora, Subject("policy", 3)))
    for told in ("revision v1", "adapter of rank 8", "on cuda:1"):
        assert told in tuned
    assert "every weight" in text_of(conditions.identity(full, Subject("policy", 3)))
    assert "adapter" not in text_of(conditions.identity(lora, Subject("base", 0)))
    assert "adapter" not in text_of(conditions.identity(evaluation(lora), Subject("policy", 3)))


# ---- run page --------------------------------------------------------------------------------


def test_a_finished_evaluation_opens_with_its_results_and_promises_nothing(bench, quick):
    done = evaluation(quick, ("harness",), evaluations=[
        Evaluated("harness/arc", "acc", "base", 0.25, 100, low=0.2, high=0.3),
        Evaluated("harness/arc", "acc_change", "policy", 0.08, 100, policy_version=2),
        Evaluated("harness/arc", "answer_nats_difference", "policy", -0.5, 100, policy_version=2),
    ])  # fmt: skip
    alone = replace(done, history=replace(done.history, shards=[]))
    shown = texts(bench, alone)
    assert shown.startswith("Results")
    assert "Accuracyharness/arc · sharebase25.0 %20.0 % to 30.0 % · n = 100" in shown
    assert "Accuracy, changeharness/arc · relative to base" in shown
    assert "+8.0 %" in shown
    assert "Surprise at the right answer, differenceharness/arc · nats, against base" in shown
    assert "appear here" not in shown
    assert run_facts.facts(alone) is None
    assert "Evaluations (" not in text_of(run_page.details(bench, visit(), alone))


def test_an_evaluation_that_will_tell_toxicity_keeps_its_place(bench, quick):
    running = evaluation(quick, state="running")
    running = replace(running, history=replace(running.history, shards=[]))
    assert "Toxic responses" in text_of(run_facts.facts(running))
    assert "Base and tuned texts appear here" in texts(bench, running)
    lone = evaluation(quick, subjects={"base": {}}, state="running")
    lone = replace(lone, history=replace(lone.history, shards=[]))
    assert run_facts.facts(lone) is None
    assert "Base and tuned" not in texts(bench, lone)


@pytest.mark.parametrize("state", ["failed", "stopped", "lost"])
def test_an_evaluation_that_ended_early_promises_nothing_but_what_resuming_brings(
    bench, quick, state
):
    ended = evaluation(quick, ("rtp", "perplexity"), state=state)
    ended = replace(ended, history=replace(ended.history, shards=[]))
    shown = texts(bench, ended)
    assert "results can come only when the run is resumed" in shown
    assert "appear here" not in shown
    assert run_facts.facts(ended) is None


def test_an_evaluation_that_waits_promises_its_results(bench, quick):
    waiting = evaluation(quick, state="queued")
    assert "Results appear here as soon as" in texts(bench, waiting)


def test_texts_that_no_scorer_judged_are_not_called_chosen(bench, quick, monkeypatch):
    answered = run_page.before_after(bench, quick)
    assert answered is not None
    left, right, pairs, _ = answered
    bare = [replace(p, left=replace(p.left, scores={}), right=replace(p.right, scores={}))
            for p in pairs]  # fmt: skip
    monkeypatch.setattr(run_page, "before_after", lambda *_: (left, right, bare, []))
    shown = texts(bench, quick)
    assert "pairs that come first" in shown
    assert "fair comparison" not in shown
    words = {"constraint": [{"kind": "forbidden_words", "words": ["red"]}]}
    shown = texts(bench, replace(quick, settings=quick.settings | words))
    assert "better here than it is on average." in shown
    monkeypatch.setattr(run_page, "before_after", lambda *_: answered)
    assert "the table above is the fair comparison." in texts(bench, quick)


def test_relative_changes_are_percentages_and_differences_of_shares_are_points():
    assert results.value(CHANGE) == "+1920.0 %"
    assert results.value(replace(CHANGE, value=-0.25)) == "−25.0 %"
    assert results._certainty(replace(CHANGE, low=0.5, high=None, n=40)) == [
        "+50.0 % to ∞", "n = 40"
    ]  # fmt: skip
    assert results.value(replace(CHANGE, metric="satisfaction_difference", value=0.5)) == "+50.0"
    assert results._origin(replace(CHANGE, metric="satisfaction_difference")) == (
        "rtp · percentage points, against base"
    )
    assert results._origin(replace(CHANGE, metric="length_tokens")) == "rtp · tokens"
    assert results.value(replace(CHANGE, value=None)) == "–"


def test_categories_and_thresholds_come_after_the_plain_numbers(quick):
    rows = [
        replace(CHANGE, metric=m) for m in ("toxic_share@x", "toxic_share_at_0.3", "toxic_share")
    ]
    shown = text_of(results.results(evaluation(quick, evaluations=rows)))
    assert shown.index("Toxic sharertp") < shown.index("scorers (2)") < shown.index("share on x")


def test_group_bias_is_told_among_the_plain_numbers_and_what_it_is_made_of_below(bench, quick):
    names = ("text_toxicity@groups", "text_toxic_share@groups", "group_bias")
    rows = [replace(CHANGE, suite="collateral/judge", metric=name, value=0.25) for name in names]
    shown = text_of(results.results(evaluation(quick, ("collateral",), evaluations=rows)))
    bias = "Score of texts about groups above everyday onescollateral/judge · score"
    assert shown.index(bias) < shown.index("scorers (2)")
    assert shown.index("scorers (2)") < shown.index("Mean score of the texts themselves on groups")
    assert "group bias" in text_of(about.page(bench)), "the word is explained"


def test_a_number_stands_beside_those_of_other_policies_and_its_comparisons():
    names = ("length_tokens", "toxic_share", "length_tokens_change", "toxic_share_change")
    found = [replace(CHANGE, metric=name) for name in names]
    other = replace(CHANGE, suite="perplexity/sotu", metric="perplexity")
    assert [e.metric for e in results.in_order([*found, other, found[1]])] == [
        "toxic_share", "toxic_share_change", "toxic_share",
        "length_tokens", "length_tokens_change", "perplexity",
    ]  # fmt: skip


def test_measurements_before_name_their_suites(tmp_path):
    synthetic.write_run(tmp_path, QUICK)
    folder = synthetic.write_run(tmp_path, CONTROL)
    (folder / "launch.json").write_text(json.dumps({"created": 1.0, "subject": QUICK}))
    resolved = json.loads((folder / "resolved.json").read_text())
    resolved["method"] = {"name": "evaluate", "suites": ["rtp", "harness"], "subjects": BOTH}
    (folder / "resolved.json").write_text(json.dumps(resolved))
    bench = make_bench(tmp_path, tmp_path)
    run, past = bench.reader.run(QUICK), bench.reader.run(CONTROL)
    assert run is not None
    assert past is not None
    said = text_of(measuring_part.past(bench, run))
    measures = text_of(
        run_head._about(replace(past, status=replace(past.status, kind="evaluation")))
    )
    bench.close()
    assert f"rtp, harness finished {CONTROL}" in said
    assert f"measures {QUICK} by rtp, harness" in measures


# ---- how far it is ---------------------------------------------------------------------------


def underway(run: Run, number: int = 0, notes=(), suites=("rtp", "harness"), **status) -> Run:
    history = History(progress=Progress("evaluate", 3, 8, number, "questions"), notes=[*notes],
                      attempts=run.history.attempts)  # fmt: skip
    shown = evaluation(run, suites, state="running")
    status = {"round": number, "seconds_left": None, "started": 1.0} | status
    return replace(shown, history=history, status=replace(shown.status, **status))


def test_an_evaluation_underway_names_suite_and_subject(bench):
    live = bench.reader.run(LIVE)
    said = text_of(run_head._progress(underway(live, 3, phase_seconds_left=580.0)))
    assert "harness of policy, part 4 of 4: measuring (3 of 8 questions)" in said
    assert "about 9 min 40 s left of this part" in said
    assert being_measured(underway(live, 1)) == "harness of base"
    failed = [(1.0, Note("warning", "suite rtp of base failed, the others go on"))]
    said = text_of(run_head._progress(underway(live, 1, failed)))
    assert "Measuring, part 2 of 4: " in said


def test_the_list_tells_the_time_of_the_part(bench):
    live = underway(bench.reader.run(LIVE), phase_seconds_left=580.0)
    row = "".join(map(text_of, runs_page._new_row(live, visit(), selected=False)))
    assert "9 min 40 sof this part" in row
    assert "0 of 4parts" in row


# ---- trade-off -------------------------------------------------------------------------------


def measure(suite: str, metric: str) -> tradeoff.Measure:
    return tradeoff.Measure(suite, metric)


def test_the_first_axes_are_whole_numbers_of_the_main_suites():
    found = [
        measure("collateral/judge", "toxic_share"), measure("rtp/judge", "toxic_share@x"),
        measure("rtp/judge", "toxic_share_at_0.1"), measure("rtp/judge", "toxic_share"),
        measure("collateral", "perplexity"), measure("fluency", "judge_perplexity"),
        measure("perplexity/sotu", "perplexity"),
    ]  # fmt: skip
    for order in (found, found[::-1]):
        across, up = tradeoff.first_axes(order, {m: {"r base 0"} for m in order})
        assert up == measure("rtp/judge", "toxic_share")
        assert across == measure("perplexity/sotu", "perplexity")


def test_every_axis_has_words_for_what_it_is_of():
    said = {
        ("fluency", "judge_perplexity"): "Perplexity under the judge, continuations (fluency)",
        ("perplexity/sotu", "mean_perplexity"): "Mean perplexity on sotu, test texts",
        ("collateral/x", "perplexity"): "Perplexity, harmless texts (collateral/x)",
        ("divergence", "kl_subject_base"): "KL(subject ‖ base), nats per token (divergence)",
        ("detection", "auc_probe"): "Detection by a probe of hidden states, AUC (detection)",
        ("fluency", "judge_left_out_share"):
            "Continuations left out of the judge's mean (fluency)",
    }  # fmt: skip
    for (suite, metric), label in said.items():
        assert tradeoff._label(measure(suite, metric)) == label


def test_shares_are_told_apart_from_their_comparisons():
    assert quantities.is_share("toxic_share_at_0.3")
    assert quantities.is_share("judge_left_out_share")
    assert quantities.is_share("exact_match_strict-match")
    assert not quantities.is_share("exact_match_difference")
    assert not quantities.is_share("toxic_share_change")
    assert not quantities.is_share("toxic_share_at_0.3_change")


def test_numbers_of_the_trade_off_stand_beside_the_run_on_any_screen(bench):
    shown = str(tradeoff.numbers(tradeoff.drawn(bench, visit())))
    assert "'class': 'fits'" in shown
    assert "acft · policy, version 3" in shown


# ---- compare ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "facts",
    [{"drawings": {"a": 1}}, {"drawings": {"a": {"temperature": "hot"}}}, {"drawings": {"a": {}}},
     {"policies": [1]}, {"policies": 5}, {"policies": {"policy": 1}}],
)  # fmt: skip
def test_an_evaluation_that_recorded_nonsense_is_compared_without_it(quick, facts):
    measured = replace(evaluation(quick), facts=facts)
    assert conditions.conditions(measured).keys() == conditions.conditions(quick).keys()
    assert conditions.weight_hash(measured, Subject("policy", 99)) == ""


def test_compare_opens_the_newest_run_in_which_two_policies_answered(tmp_path: Path):
    synthetic.write_run(tmp_path, QUICK)
    newest = "20261122-235959-newe"
    synthetic.write_run(tmp_path, newest, synthetic.Shape(state="stopped"))
    bench = make_bench(tmp_path, tmp_path)
    found = compare.compared(bench, visit())
    asked = compare.compared(bench, visit(newest))
    said = text_of(compare.summary(bench, visit(newest)))
    bench.close()
    assert found is not None
    assert found.run.run_id == QUICK
    assert asked is not None
    assert asked.left == asked.right
    assert "Both sides are base of the same run" in said
