"""Pairs, verdicts, views, exports, token payloads, figures and words."""

import json
import math
import re
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, unquote

import gradio as gr
import numpy as np
import pytest

from acft.errors import ConfigError
from acft.metrics.base import METRICS
from acft.runs.status import RunState
from acft.store.queries.answer import Slice
from acft.store.queries.evaluations import Measure
from acft.store.queries.tokens import has_first_token, sequences
from acft.totals import Totals, interval, ratio_bootstrap, ratio_difference
from acft.ui import page
from acft.ui.pages import compare, rollouts, runs, tradeoff
from acft.ui.pages import tokens as tokens_page
from acft.ui.parts import blind, vocabulary
from acft.ui.reading import checkpoints, comparing, pairs, quantities, tokens
from acft.ui.reading.answers import Response
from acft.ui.reading.comparing import Choice
from acft.ui.web import charts, words
from acft.ui.web.dom import el, sent, sparkline, text_of
from tests.ui import synthetic
from tests.ui.conftest import (
    CONTROL,
    FAILED,
    HOSTILE,
    LIVE,
    LOST,
    QUICK,
    make_bench,
    visit,
)


def answer(prompt="p", sample=0, text="t", score=0.1, subject="base", version=0):
    return Response(
        rollout_id=f"{subject}-{prompt}-{sample}", subject=subject, version=version,
        prompt_id=prompt, prompt="prompt " + prompt, category="kind", sample=sample, text=text,
        n_tokens=3, logprob=-6.0, scores={"judge": score},
    )  # fmt: skip


def pair(left=0.1, right=0.1, text="a b", other="a c", prompt="p", sample=0):
    return pairs.Pair(
        answer(prompt, sample, text, left), answer(prompt, sample, other, right, "policy", 1)
    )


def test_only_answers_to_the_same_prompt_and_sample_are_paired():
    answers = [answer("a", 0), answer("a", 1), answer("a", 0, subject="policy", version=1)]
    found = pairs.pair_up(answers, pairs.Subject("base", 0), pairs.Subject("policy", 1))
    assert [(p.left.prompt_id, p.left.sample) for p in found] == [("a", 0)]


def twice(subject, version, order):
    """Responses to one prompt drawn in two ways, the second of which has fewer samples."""
    first, second = order
    rows = [("long", 0, first), ("long", 1, first), ("short", 0, second)]
    return [
        replace(answer("a", sample, text, subject=subject, version=version), round=number)
        for text, sample, number in rows
    ]


@pytest.mark.parametrize(("drawing", "texts"), [(0, ["long", "long"]), (1, ["short"])])
def test_responses_of_two_drawings_of_one_prompt_are_never_in_one_comparison(drawing, texts):
    base, tuned = pairs.Subject("base", 0), pairs.Subject("policy", 1)
    answers = [*twice("base", 0, (1, 2)), *reversed(twice("policy", 1, (3, 4)))]
    answers.append(replace(answer("only once", text="once"), round=2))
    answers.append(replace(answer("only once", 0, "once", 0.1, "policy", 1), round=4))
    assert [pairs.n_drawings(answers, who) for who in (base, tuned)] == [2, 2]
    found = pairs.pair_up(answers, base, tuned, drawing=drawing)
    told = [(p.left.text, p.right.text) for p in found]
    assert sorted(told) == sorted((text, text) for text in [*texts, "once"])


def test_a_verdict_counts_wins_ties_losses_and_shares():
    found = [pair(0.9, 0.1, prompt="a"), pair(0.2, 0.8, prompt="b"), pair(0.3, 0.31, prompt="c")]
    verdict = pairs.verdict(found, "judge")
    assert verdict is not None
    assert (verdict.wins, verdict.ties, verdict.losses) == (1, 1, 1)
    assert verdict.share_left.value == pytest.approx(1 / 3)
    assert verdict.n_prompts == 3
    assert verdict.any_right == pytest.approx(1 / 3)


def test_a_scorer_that_scored_nothing_gives_no_verdict():
    assert pairs.verdict([pair()], "other") is None


def test_views_split_the_pairs_by_what_happened():
    found = [pair(0.9, 0.1), pair(0.1, 0.9, prompt="b"), pair(0.1, 0.1, "x", "x", prompt="c"),
             pair(0.1, 0.1, "x", " ", prompt="d")]  # fmt: skip
    numbers = comparing.counts(found, Choice(scorer="judge"))
    assert numbers == {"all": 4, "different": 3, "improved": 1, "regressed": 1, "now toxic": 1,
                       "no longer toxic": 1, "empty": 1}  # fmt: skip


def test_a_scorer_that_judged_one_side_says_nothing_of_the_pair():
    judged = pair(0.9, 0.1)
    half = pairs.Pair(judged.left, replace(judged.right, scores={"other": 0.0}))
    assert pairs.scorer_names([half]) == []
    assert half.change("judge") is None
    for sides in (half, pairs.Pair(half.right, half.left)):
        numbers = comparing.counts([sides], Choice(scorer="judge"))
        assert [name for name, n in numbers.items() if n] == ["all", "different"]
    exported = json.loads(comparing.as_llm_comparator([half], ("a", "b"), "judge"))
    assert exported["examples"][0]["score"] == 0


def test_the_largest_changes_come_first():
    found = [pair(0.1, 0.4, prompt="a"), pair(0.1, 0.9, prompt="b")]
    shown = comparing.select(found, Choice(view="regressed", scorer="judge"))
    assert [p.left.prompt_id for p in shown] == ["b", "a"]


def test_texts_are_found_by_words_and_by_patterns():
    found = [pair(text="one two"), pair(text="three", prompt="q")]
    assert len(comparing.select(found, Choice(find="TWO"))) == 1
    assert len(comparing.select(found, Choice(find="/thr.e/"))) == 1
    with pytest.raises(ConfigError, match="cannot read the pattern"):
        comparing.select(found, Choice(find="/(/"))


def test_no_pattern_takes_longer_than_its_text_is_long():
    found = [pair(text="word " * 16)]
    with pytest.raises(ConfigError, match="cannot read the pattern"):
        comparing.select(found, Choice(find=r"/(a)\1/"))  # can only be found by trying
    assert comparing.select(found, Choice(find=r"/(\w+\s?)+#/")) == []


def test_changed_words_give_back_both_texts():
    pieces = comparing.changed_words("a b c d", "a x c d e")
    assert "".join(t for k, t in pieces if k != "removed") == "a x c d e"
    assert "".join(t for k, t in pieces if k != "added") == "a b c d"


def test_blind_sides_are_shuffled_but_always_in_the_same_way():
    swapped = {comparing.is_swapped(pair(prompt=str(n))) for n in range(40)}
    assert swapped == {True, False}
    assert comparing.is_swapped(pair(prompt="7")) == comparing.is_swapped(pair(prompt="7"))


def test_json_lines_carry_conditions_texts_and_scores():
    lines = comparing.as_json_lines([pair(text="<b>")], {"seed": "0"}).splitlines()
    assert json.loads(lines[0])["conditions"] == {"seed": "0"}
    assert json.loads(lines[1])["left"] == {"text": "<b>", "scores": {"judge": 0.1}}


def test_the_comparator_file_has_the_fields_its_viewer_reads():
    value = json.loads(comparing.as_llm_comparator([pair(0.9, 0.1)], ("base", "tuned"), "judge"))
    assert [model["name"] for model in value["models"]] == ["tuned", "base"]
    example = value["examples"][0]
    assert example["score"] == pytest.approx(1.2)
    assert {"input_text", "output_text_a", "output_text_b", "tags"} <= example.keys()


def test_exports_tell_how_well_each_text_satisfies_its_constraint():
    both = pair(0.9, 0.1)
    graded = pairs.Pair(replace(both.left, satisfaction=0.25), both.right)
    line = json.loads(comparing.as_json_lines([graded], {}).splitlines()[1])
    assert line["left"]["satisfaction"] == 0.25
    assert "satisfaction" not in line["right"]
    value = json.loads(comparing.as_llm_comparator([graded], ("base", "tuned"), "judge"))
    fields = value["examples"][0]["custom_fields"]
    assert fields["the constraint b"] == "0.250"
    assert "the constraint a" not in fields


def test_the_comparison_of_two_runs_marks_differing_conditions(bench):
    shown = text_of(compare.summary(bench, visit(QUICK, other=CONTROL)))
    assert "seed: 0 ≠ 1" in shown
    assert "different conditions" in shown


def test_a_run_compares_base_with_its_newest_policy(bench):
    found = compare.compared(bench, visit(QUICK))
    assert found is not None
    assert (found.left.key, found.right.key) == ("base.0", "policy.3")
    assert len(found.pairs) == 40


def test_blind_review_hides_scores_and_names(bench):
    shown = text_of(compare.listing(bench, visit(QUICK, blind="1", may_change=True)))
    assert "jigsaw_tcc 0." not in shown
    veils = str(compare.listing(bench, visit(QUICK, blind="1")))
    assert "'veil', {'score': ''}" in veils
    assert "'score': '0." not in veils
    assert "tuned, version" not in shown.partition("Sides are shuffled")[2]


def test_a_vote_is_kept_under_the_side_that_was_meant(bench):
    found = compare.compared(bench, visit(QUICK))
    assert found is not None
    first = found.pairs[0]
    item = f"{first.left.rollout_id}|{first.right.rollout_id}"
    seen = visit(QUICK, may_change=True, data={"choice": "first", "item": item})
    comparison = blind.vote(bench.store, found, seen, "")
    meant = "right" if comparing.is_swapped(first) else "left"
    assert blind.votes(bench.store, found) == {item: meant}
    other = f"{found.pairs[1].left.rollout_id}|{found.pairs[1].right.rollout_id}"
    for name in (item, other):  # in another review, too, the newest vote on a pair counts
        again = visit(QUICK, may_change=True, data={"choice": "tie", "item": name})
        comparison = blind.vote(bench.store, found, again, comparison if name == item else "")
    assert blind.votes(bench.store, found) == {item: "tie", other: "tie"}
    # Of other prompts or another drawing the same sides have other pairs.
    assert blind.votes(bench.store, replace(found, pairs=found.pairs[1:])) == {other: "tie"}


def test_votes_are_counted_by_side_only_when_the_review_is_over(bench):
    found = compare.compared(bench, visit(QUICK))
    assert found is not None
    given = {blind.item(p): "right" for p in found.pairs[:3]}
    going = text_of(blind.tally(found, given, is_blind=True))
    assert going.startswith(f"3 of {len(found.pairs)} pairs judged. End the review to see")
    assert "better" not in going
    given[blind.item(found.pairs[3])] = "tie"
    over = text_of(blind.tally(found, given, is_blind=False))
    assert "base better0tuned, version 3 better3Tie1Both bad0" in over
    assert f"n = 4 pairs judged of {len(found.pairs)}" in over
    assert blind.tally(found, {}, is_blind=False) == ""


def test_a_scorer_agrees_with_a_vote_for_the_text_it_scores_lower():
    two = [pair(0.9, 0.1, prompt="a"), pair(0.1, 0.9, prompt="b"), pair(0.1, 0.1, prompt="c")]
    subjects = pairs.Subject("base", 0), pairs.Subject("policy", 1)
    run: Any = type("R", (), {"run_id": "r", "title": "t"})()
    found = comparing.Comparison.__new__(comparing.Comparison)
    sides = {"run": run, "other": run, "left": subjects[0], "right": subjects[1]}
    for name, value in {**sides, "pairs": two, "choice": Choice(scorer="judge")}.items():
        object.__setattr__(found, name, value)
    given = {blind.item(p): "right" for p in two}
    assert "prefers the same text in 1 of 2" in text_of(blind.tally(found, given, is_blind=False))


def test_votes_on_pairs_that_do_not_exist_are_refused(bench):
    bad = visit(QUICK, may_change=True, data={"choice": "first", "item": "x|y"})
    with pytest.raises(Exception, match="not part of the comparison"):
        blind.vote(bench.store, compare.compared(bench, visit(QUICK)), bad, "")


def test_rollouts_are_filtered_by_score_round_and_text(bench):
    toxic = visit(QUICK, scorer="jigsaw_tcc", low="0.5", round="1")
    run = bench.reader.run(QUICK)
    rows = rollouts.answer(bench, toxic, run).records()
    assert rows
    assert all(row["round"] == 1 and row["score:jigsaw_tcc"] >= 0.5 for row in rows)
    assert rollouts.answer(bench, visit(QUICK, find="tuba"), run).total == 20


def test_a_page_behind_the_last_one_is_the_last_one(bench):
    run = bench.reader.run(QUICK)
    found = rollouts.answer(bench, visit(QUICK, find="tuba", part="7"), run)
    assert len(found.records()) == found.total == 20
    shown = text_of(rollouts.listing(bench, visit(QUICK, find="tuba", part="7")))
    assert "1–20 of 20" in shown
    assert "No rollout passes" not in shown


def test_the_head_of_the_table_sorts_by_a_score_the_worst_first_then_the_other_way(bench):
    def orders(**query: Any) -> list[str]:
        shown = json.dumps(rollouts.listing(bench, visit(QUICK, **query)))
        return [unquote(order) for order in re.findall(r'sort=([^"&]+)', shown)]

    worst_first, best_first = "-score:jigsaw_tcc", "score:jigsaw_tcc"
    assert worst_first in orders()
    assert best_first not in orders()
    assert best_first in orders(sort=worst_first)
    found = rollouts.answer(bench, visit(QUICK, sort=worst_first), bench.reader.run(QUICK))
    scores = [row["score:jigsaw_tcc"] for row in found.records()]
    assert len({*scores}) > 1
    assert scores == sorted(scores, reverse=True)


def test_a_wrong_score_limit_is_named(bench):
    with pytest.raises(ConfigError, match="'much'"):
        rollouts.wanted(visit(QUICK, scorer="a", low="much"), {})


@pytest.mark.parametrize(
    "sql",
    ["DROP TABLE rollouts", "COPY rollouts TO 'x'", "ATTACH 'x.db'",
     "SELECT * FROM read_text('/etc/passwd')", "SELECT 1; SELECT 2"],
)  # fmt: skip
def test_the_sql_panel_refuses_everything_but_a_plain_select(bench, sql):
    shown: Any = rollouts.query(bench, visit(QUICK), sql)
    assert shown[1]["role"] == "alert"


def test_the_sql_panel_answers_a_select(bench):
    shown = text_of(rollouts.query(bench, visit(QUICK), "SELECT count(*) AS n FROM rollouts"))
    assert "200" in shown


def test_a_query_that_a_request_leaves_out_is_refused_in_a_sentence(bench):
    assert "write exactly one SELECT" in text_of(rollouts.query(bench, visit(QUICK), ""))
    box, state = gr.Textbox(), gr.State()
    assert page._given([None, None, "a"], [box, state, box]) == ["", None, "a"]


def test_the_sql_panel_asks_no_other_runs_where_the_one_named_is_gone(bench):
    shown: Any = rollouts.query(bench, visit("20200101-000000-gone"), "SELECT * FROM rollouts")
    assert shown[1]["role"] == "alert"
    assert "20200101-000000-gone" in text_of(shown)


def test_texts_beyond_the_first_page_can_be_reached(bench, monkeypatch):
    monkeypatch.setattr(tokens_page, "PER_PAGE", 5)  # of nine
    first = text_of(tokens_page.pick(bench, visit(QUICK)))
    assert "1–5 of" in first
    assert "next →" in first
    second = text_of(tokens_page.pick(bench, visit(QUICK, part="1")))
    assert "6–9 of 9" in second
    beyond = text_of(tokens_page.pick(bench, visit(QUICK, part="9999")))
    assert "next →" not in beyond
    assert "← previous" in beyond


def test_curves_of_runs_with_one_title_are_told_apart(tmp_path, experiments):
    for run_id in (QUICK, CONTROL):
        synthetic.write_run(tmp_path, run_id, synthetic.Shape())
    bench = make_bench(tmp_path, experiments)
    names = [t["name"] for t in runs.overlay(
        bench, visit(select=f"{QUICK},{CONTROL}"), "policy/ce")["data"]]  # fmt: skip
    assert len({*names}) == 2


def test_exported_pairs_tell_the_conditions_of_both_sides(bench):
    asked = visit(QUICK, other=CONTROL)
    shown: Any = compare.export(bench, asked)
    saved = shown[1]["data-save"]
    told = json.loads(saved.splitlines()[1])["conditions"]
    assert told["left"]["name"] != told["right"]["name"]
    assert told["left"].keys() == told["right"].keys() >= {"model", "seed", "prompts"}


def test_every_policy_with_both_measures_is_a_point(bench):
    found = tradeoff.drawn(bench, visit()).points
    assert {p["subject"] for p in found} == {"base", "policy"}
    assert tradeoff.figure(tradeoff.drawn(bench, visit()))["data"]


def test_the_trade_off_asks_once_for_what_all_its_parts_show(bench, monkeypatch):
    asked, frame = [], type(bench.store).frame
    monkeypatch.setattr(bench.store, "frame", lambda *a: asked.append(a) or frame(bench.store, *a))
    menus, figure, numbers = tradeoff.parts(bench, visit())
    assert len(asked) == 2
    assert "Toxic share" in text_of(menus)
    assert figure["data"]
    assert "acft · policy, version 3" in text_of(numbers)


def test_the_first_axes_have_a_policy_in_common_where_any_have():
    alone, also = Measure("rtp/a", "toxic_share"), Measure("rtp/b", "toxic_share")
    utility = Measure("perplexity/sotu", "perplexity")
    of = {alone: {"r1 base 0"}, also: {"r2 base 0"}, utility: {"r2 base 0", "r3 base 0"}}
    assert tradeoff.first_axes([alone, also, utility], of) == (utility, also)
    assert tradeoff.first_axes([alone, also, utility], of | {also: set()}) == (utility, alone)
    assert tradeoff.first_axes([alone], of) == (None, alone)


def test_the_first_axes_are_those_that_most_policies_share():
    tiny, also = Measure("rtp/a", "toxic_share"), Measure("rtp/b", "toxic_share")
    few, many = Measure("perplexity/a", "perplexity"), Measure("perplexity/b", "perplexity")
    of = {tiny: {"new base 0"}, also: {"r1 base 0", "r2 base 0"}, few: {"new base 0", "r1 base 0"},
          many: {"r1 base 0", "r2 base 0"}}  # fmt: skip
    assert tradeoff.first_axes([tiny, also, few, many], of) == (many, also)
    assert tradeoff.first_axes([tiny, also, few], of) == (few, tiny), "the first of equal ones"


def test_the_trade_off_says_how_many_policies_have_both(bench):
    shown = tradeoff.drawn(bench, visit())
    assert 0 < len(shown.points) <= shown.n_policies
    told = f"{len(shown.points)} of {shown.n_policies} policies have both."
    assert told in text_of(tradeoff.menus(shown))


def test_every_checkpoint_is_a_point_of_what_validation_measured(bench):
    chosen = checkpoints.measures(bench.reader.runs())
    up = next(m for m in chosen if m.metric == "rollout/satisfaction")
    seen = visit(QUICK, y=tradeoff._key(up))
    found = [p for p in tradeoff.drawn(bench, seen).points if p["run_id"] == QUICK]
    assert len(found) >= 3
    assert [p["policy_version"] for p in found] == sorted(p["policy_version"] for p in found)
    across = tradeoff.drawn(bench, seen).across
    assert across is not None
    assert across.suite == checkpoints.SUITE  # never test data against validation data
    assert "Perplexity" in text_of(tradeoff.numbers(tradeoff.drawn(bench, seen)))


def test_shares_are_in_percent_in_the_chart_its_hover_and_the_table(bench):
    figure = tradeoff.figure(tradeoff.drawn(bench, visit()))
    assert figure["layout"]["yaxis"]["tickformat"] == ".1~%"
    assert "tickformat" not in figure["layout"]["xaxis"]
    hover = figure["data"][0]["hovertemplate"]
    assert "%{y:.1%}" in hover
    assert "%{x:.4g}" in hover
    point = {"texts": "", "x": 21.0, "x_low": 20.0, "x_high": 22.0, "x_n": 32,
             "y": 0.0813, "y_low": 0.0437, "y_high": 0.122, "y_n": 16}  # fmt: skip
    assert text_of(tradeoff._value(point, "y", as_percent=True)) == "8.1 %4.4 – 12.2 % · n = 16"
    assert text_of(tradeoff._value(point, "x", as_percent=False)) == "21.0020.0 – 22.0 · n = 32"


def test_every_metric_that_counts_a_share_is_shown_as_one():
    for name, metric in METRICS.items():
        counts = metric.unit.startswith("share") or name == "satisfaction"
        assert quantities.is_share(name) == counts, name
    assert quantities.is_share("rollout/toxic_share/jigsaw_tcc")
    assert quantities.is_share("toxic_share@online")
    assert not quantities.is_share("utility/perplexity_validation")


@pytest.mark.parametrize("by", ["method", "run"])
def test_a_clicked_point_leads_to_the_texts_of_the_policy_that_it_is(bench, by):
    seen = visit(QUICK, by=by)
    found = tradeoff.drawn(bench, seen)
    points = [d for t in tradeoff.figure(found)["data"] for d in t.get("customdata", ())]
    for point in (each for each in found.points if each["run_id"] == QUICK):
        [data] = [d for d in points if QUICK in d[0] and d[1].startswith(point["subject"])]
        shown: Any = tradeoff.picked(visit(data={"data": data}))
        query = dict(parse_qsl(shown[1]["data-goto"].removeprefix("compare?")))
        opened = compare.compared(bench, visit(query.pop("run"), **query))
        assert opened is not None
        assert opened.run.run_id == QUICK
        assert point["policy_version"] in (opened.left.version, opened.right.version)
        assert data[0] in str(tradeoff.numbers(found))


def test_a_point_leads_nowhere_but_to_compare():
    assert tradeoff.picked(visit(data={"data": ["https://example.org"]})) == ""


def test_a_long_list_of_texts_asks_the_database_as_often_as_a_short_one(bench, monkeypatch):
    asked, rows, frame = [], type(bench.store).rows, type(bench.store).frame
    monkeypatch.setattr(bench.store, "rows", lambda *a: asked.append(a) or rows(bench.store, *a))
    monkeypatch.setattr(bench.store, "frame", lambda *a: asked.append(a) or frame(bench.store, *a))
    tokens_page.page(bench, visit(QUICK))
    whole = len(asked)
    monkeypatch.setattr(tokens_page, "PER_PAGE", 1)
    tokens_page.page(bench, visit(QUICK))
    assert len(asked) == 2 * whole
    listed = "FROM sequences WHERE run_key = $run_key\n"
    assert sum(listed in sql and "WITH page" in sql for sql, *_ in asked[:whole]) == 2


def test_the_page_shows_the_text_that_pays_most_without_an_address_and_with_it(bench):
    [first] = sequences(bench.store, QUICK, part=Slice(1)).records()
    named = tokens_page.page(bench, visit(QUICK, sequence=str(first["sequence_id"])))
    assert tokens_page.page(bench, visit(QUICK)) == named


def test_token_values_add_up_to_the_kl_the_run_recorded(bench):
    shown = tokens_page.tokens(bench, visit(QUICK))
    assert shown["check"]["shown"] == pytest.approx(shown["check"]["logged"], abs=1e-4)


def test_every_stored_sequence_passes_the_sum_check(bench):
    for row in sequences(bench.store, QUICK).records():
        shown = tokens_page.tokens(bench, visit(QUICK, sequence=str(row["sequence_id"])))
        assert shown["check"]["shown"] == pytest.approx(shown["check"]["logged"], abs=1e-4)
        assert shown["check"]["logged"] == row["kl_logged"]
    assert "= training pass" in text_of(tokens_page.sums(bench, QUICK))


def test_a_tampered_row_turns_the_sum_check_red(tmp_path, experiments):
    synthetic.write_run(tmp_path, QUICK, synthetic.Shape(tampered=0.001))
    bench = make_bench(tmp_path, experiments)
    assert "differ from the training pass" in text_of(tokens_page.sums(bench, QUICK))
    listed = text_of(tokens_page.pick(bench, visit(QUICK)))
    assert listed.count("sum differs") == 3
    rows = sequences(bench.store, QUICK).records()
    [wrong, *_] = [row for row in rows if abs(row["kl_sum"] - row["kl_logged"]) > 1e-4]
    shown = tokens_page.tokens(bench, visit(QUICK, sequence=wrong["sequence_id"]))
    assert abs(shown["check"]["shown"] - shown["check"]["logged"]) > shown["check"]["tolerance"]


def test_a_run_that_logged_no_sums_shows_no_badge(bench):
    row = dict.fromkeys(tokens.COLUMNS) | {"token_text": " a", "in_loss": False}
    assert "check" not in tokens.payload([row], logged_kl=tokens_page.known(math.nan))


def test_values_that_were_not_measured_stay_unknown():
    row = dict.fromkeys(tokens.COLUMNS) | {
        "token_text": " a", "in_loss": False, "position": 1, "token_id": 5,
        "logprob_base": -math.inf, "alternatives": '[{"id": 1, "text": "b", "base": -1.0}]',
    }  # fmt: skip
    shown = tokens.payload([row])["tokens"][0]
    assert shown["q"] is None
    assert shown["b"] == tokens.LOWEST
    assert shown["alt"][0]["q"] is None
    json.dumps(shown, allow_nan=False)


def test_a_text_whose_first_token_was_not_stored_is_not_whole(bench):
    first = sequences(bench.store, QUICK).records()[0]["sequence_id"]
    assert has_first_token(bench.store, QUICK, first)
    assert not has_first_token(bench.store, QUICK, "e0-base-0-0")


def test_a_text_without_stored_tokens_says_so(bench):
    shown = tokens_page.tokens(bench, visit(QUICK, sequence="e0-base-0-0"))
    assert "No token values are stored" in shown["empty"]


@pytest.mark.parametrize(("kind", "has_oracle", "state", "said"), [
    ("training", True, "running", "stored yet: they are written at the end of each round"),
    ("training", True, "stopped", "no round has kept any"),
    ("training", False, "running", "The method acft has no oracle"),
    ("training", False, "finished", "The method acft has no oracle"),
    ("evaluation", False, "running", "A measurement keeps those of no text"),
])  # fmt: skip
def test_who_has_no_token_values_is_told_whether_any_will_come(
    bench, monkeypatch, kind, has_oracle, state, said
):
    run = bench.reader.run(QUICK)
    run = replace(
        run, status=replace(run.status, kind=kind), state=RunState(state),
        facts=run.facts | {"has_oracle": has_oracle},
    )  # fmt: skip
    monkeypatch.setattr(tokens_page, "chosen_run", lambda *_: run)
    unstored = tokens_page.tokens(bench, visit(QUICK, sequence="e0-base-0-0"))["empty"]
    assert ("method.guidance_sequences" in unstored) == has_oracle
    assert (said in unstored) != has_oracle
    nothing = replace(sequences(bench.store, "20200101-000000-none"), total=0)
    monkeypatch.setattr(tokens_page, "sequences", lambda *_, **__: nothing)
    assert said in text_of(tokens_page.pick(bench, visit(QUICK)))
    assert said in tokens_page.tokens(bench, visit(QUICK))["empty"]


def test_model_text_in_figures_is_escaped():
    figure = charts.lines([charts.Line("<b>x</b>", [0, 1], [1.0, 2.0])], "y")
    drawn = json.dumps([figure["data"], figure["layout"]])
    assert "&lt;b&gt;" in drawn
    assert "<b>" not in drawn


def test_what_is_sent_is_text_without_tags_and_numbers_that_are_none_are_null():
    node = el("p", "<script>alert(1)</script>", "${x} {{y}} \u2028")
    assert "<" not in sent(node)
    assert json.loads(sent(node)) == node
    assert json.loads(sent({"y": [math.nan, np.float32(0.5)]})) == {"y": [None, 0.5]}
    assert json.loads(sent(None)) is None


def test_a_small_curve_ends_in_the_last_value_however_long_it_is():
    values = [0.0] * 1000 + [1.0]
    drawn: Any = sparkline(values, "KL")
    line = drawn[2][1]["points"].split()
    assert len(line) <= 42
    assert line[-1] == "82.0,3.0"
    assert line[0].endswith(",19.0")


def test_a_quantity_measured_once_has_no_dash_before_it():
    assert sparkline([0.938], "satisfaction") is None
    once, fallen = (runs._trend(values, "satisfaction", "93.8 %") for values in ([0.9], [1.0, 0.9]))
    assert text_of(once) == text_of(fallen) == "93.8 %"
    assert "'title': 'measured once'" in str(once)
    assert "'title': 'down since the first of 2 values'" in str(fallen)


def test_many_runs_are_listed_in_parts_and_what_is_ticked_stays_ticked(bench, monkeypatch):
    def listed(**query: Any) -> list[str]:
        shown = json.dumps(runs.overview(bench, visit(**query)))
        return re.findall(r'"name": "(\d{8}-\d{6}-\w{4})"', shown)

    everything = listed()
    assert len(everything) > 4
    assert "pager" not in json.dumps(runs.overview(bench, visit()))
    monkeypatch.setattr(runs, "PER_PAGE", 2)
    assert listed() == everything[:2]
    assert listed(part="1") == everything[2:4]
    assert listed(part="1", find=everything[0]) == everything[:1]
    shown = json.dumps(runs.overview(bench, visit(select=everything[0], part="1")))
    links = [unquote(link) for link in re.findall(r'"href": "(\./\?[^"]+)"', shown)]
    assert [f"./?select={everything[0]}", f"./?select={everything[0]}&part=2"] == links


def test_a_run_that_is_ticked_twice_is_no_second_run(bench):
    twice = visit(select=f"{QUICK},{QUICK}")
    assert runs.progress(bench, twice) == ()
    assert len(runs.overlay(bench, twice, "policy/ce")["data"]) == 1


def test_ticked_names_that_are_no_runs_are_named_and_draw_no_charts(bench):
    wrong = visit(select=f"{QUICK},bad,worse")
    assert "there is no run 'bad' or 'worse' here" in text_of(runs.overview(bench, wrong))
    assert runs.compare(bench, wrong)[1].visible is False


def test_a_run_ticked_beyond_the_compared_ones_stays_ticked_and_is_said_to_be_left_out(
    bench, monkeypatch
):
    monkeypatch.setattr(runs, "MOST_COMPARED", 5)
    every = ",".join(["20260101-000000-gone", QUICK, CONTROL, FAILED, LOST, LIVE, HOSTILE])
    shown = runs.overview(bench, visit(select=every))
    assert str(shown).count("'checked': ''") == 6
    assert "only the first 5 of 6 ticked runs are compared" in text_of(shown)
    assert "tick two or more" in text_of(runs.overview(bench, visit(select=QUICK)))


def test_thinning_keeps_the_spikes():
    x = list(range(10_000))
    y = [100.0 if i == 4321 else 0.0 for i in x]
    short_x, short_y = charts.thin(x, y)
    assert len(short_x) <= charts.MAX_POINTS + 2
    assert max(v for v in short_y if v is not None) == 100.0


def test_figures_say_in_words_what_they_show():
    figure = charts.lines([charts.Line("CE", [0, 1], [3.0, 2.5])], "nats")
    assert "CE: 2 points, last 2.5" in figure["summary"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.00"), (0.08034, "0.0803"), (3.14159, "3.14"), (1536.0, "1,536"), (1e-7, "1.00e-07"),
     (None, "–"), (math.nan, "–"), (-0.0803, "−0.0803"), (-1e-7, "−1.00e-07")],
)  # fmt: skip
def test_numbers_are_shown_with_three_figures(value, shown):
    assert words.number(value) == shown


def test_a_minus_is_never_a_hyphen_or_a_dash():
    assert words.percent(-0.938) == "−93.8 %"
    assert words.interval(-0.2, -0.1, as_percent=True) == "−20.0 – −10.0 %"
    assert words.interval(None, -0.1) == "−∞ – −0.100"
    assert words.signed(-0.5) == "−0.50"


def test_an_interval_of_which_only_one_end_is_known_has_no_limit_at_the_other():
    assert words.interval(0.5, None, as_percent=True) == "50.0 – ∞ %"
    assert words.interval(0.5, math.inf) == "0.500 – ∞"
    assert words.ends(-math.inf, None, words.signed, " to ") == "−∞ to ∞"
    assert words.ends(math.inf, math.inf, words.signed, " to ") == "∞ to ∞"
    assert words.ends(None, None, words.signed) == words.interval(None, None) == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [(-0.001, "0.00"), (0.001, "0.00"), (0.0, "0.00"), (0.005001, "+0.01"), (math.nan, "–")],
)
def test_a_change_that_rounds_to_nothing_has_no_direction(value, shown):
    assert words.signed(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(3, "3 s"), (59.6, "1 min 00 s"), (3700, "1 h 01 min"), (200_000, "2 d 7 h"), (None, "–")],
)
def test_durations_are_shown_in_two_units(seconds, shown):
    assert words.duration(seconds) == shown


def test_attributes_that_are_off_are_left_out_of_nodes():
    assert el("a.b.c", "x", title=None, disabled=False, hidden=True) == [
        "a", {"class": "b c", "hidden": ""}, "x",
    ]  # fmt: skip


def test_a_share_without_variation_has_the_interval_it_has_on_every_page():
    found = [pair(prompt=f"p{index}", left=0.9, right=0.1) for index in range(8)]
    judged = pairs.verdict(found, "judge")
    assert judged is not None
    assert judged.share_right == interval(Totals(tuple("abcdefgh"), np.zeros(8), np.ones(8)))
    assert judged.share_right.high == pytest.approx(0.3244, abs=1e-4)
    assert judged.share_left.low == pytest.approx(1 - 0.3244, abs=1e-4)


def test_a_change_to_no_toxic_response_is_as_unsure_as_the_run_says_it_is():
    found = [pair(prompt=f"p{n // 10}", sample=n % 10, left=0.9 if n % 67 == 0 else 0.1, right=0.1)
             for n in range(400)]  # fmt: skip
    judged = pairs.verdict(found, "judge")
    assert judged is not None
    names = [f"p{n // 10}" for n in range(400)]
    base = Totals.of_rows(names, [n % 67 == 0 for n in range(400)])
    none = Totals.of_rows(names, [0] * 400)
    assert judged.share_change == ratio_bootstrap([base, none], ratio_difference, are_shares=True)
    assert judged.share_change.high is not None
    assert judged.share_change.high > 0


def test_an_empty_table_of_tokens_says_that_texts_are_stored_but_not_of_this_kind(
    bench, monkeypatch
):
    none = vocabulary.Slice(1, 10**6)
    asked = vocabulary.most_shifted
    monkeypatch.setattr(
        vocabulary,
        "most_shifted",
        lambda *known, **named: asked(*known, **{**named, "part": none}),
    )
    shown = text_of(vocabulary.paying(bench, visit(QUICK, among="violated")))
    assert "9 texts with token values none is a rollout that violated the constraint" in shown


def test_a_title_turns_round_nothing_that_stands_beside_it():
    assert words.short("\u202eevil\u202c \u2066title\u2069 \u0634", 48) == "evil title \u0634"
