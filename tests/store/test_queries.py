import json

import pytest

from acft.events import Calibration, Evaluated, Note, RoundFinished, Scalars, Started
from acft.store.connection import StoreError
from acft.store.facts import run_key
from acft.store.queries import audit, evaluations, rollouts, runs, tokens
from acft.store.queries.answer import MAX_PAGE, Page, literal, written_out
from acft.store.queries.evaluations import Measure
from acft.store.queries.rollouts import RolloutFilter, ScoreRange
from tests.store.directories import RUN, Directory

OTHER = "20261122-130000-bbbb"
RELIABILITY = [{"low": 0.0, "high": 1.0, "predicted": 0.4, "observed": 0.5, "n": 8.0}]


@pytest.fixture
def two_runs(store, ingester, tmp_path):
    first, second = Directory(tmp_path), Directory(tmp_path, OTHER)
    first.paths.resolved.write_text(
        json.dumps({"settings": {"title": "Main", "method": {"name": "acft", "kl_weight": 1.0}}})
    )
    second.paths.resolved.write_text(
        json.dumps({"settings": {"title": "Control", "method": {"name": "acft", "kl_weight": 0.0}}})
    )
    second.labels("control", notes="a note")
    second.status(created=2e9, state="finished")
    first.say(Started(pid=1))
    for step in range(8):
        first.say(Scalars(1, step, {"policy/ce": float(step)}))
    first.seal(
        "rollouts",
        {"rollout_id": "a", "satisfaction": 0.95, "response_text": " Blue sky"},
        {"rollout_id": "b", "satisfaction": 0.15, "response_text": " grey 42", "n_tokens": 2},
        {"rollout_id": "c", "satisfaction": 0.55, "round": 2, "policy_version": 1},
    )
    first.seal(
        "scores",
        {"rollout_id": "a", "scorer": "kind", "value": 0.1},
        {"rollout_id": "b", "scorer": "kind", "value": 0.9},
        {"rollout_id": "c", "scorer": "kind", "value": 0.5},
        {"rollout_id": "a", "scorer": "it's", "value": 1.0},
    )
    first.seal(
        "guidance",
        {
            "sequence_id": "a",
            "position": 0,
            "token_text": "The",
            "in_loss": False,
            "kl_logged": 0.25,
        },
        {
            "sequence_id": "a",
            "position": 1,
            "token_text": " sky",
            "kl_guided_policy": 0.25,
            "kl_logged": 0.25,
        },
        {
            "sequence_id": "b",
            "position": 0,
            "token_text": " sky",
            "kl_guided_policy": 0.75,
            "kl_logged": 0.75,
        },
        {"sequence_id": "a", "position": 0, "step": 20, "token_text": "The"},
    )
    metrics: dict[str, float | None] = {"auc": 0.8, "brier": None}
    first.say(
        Calibration(1, 1, 100, 10, metrics, RELIABILITY, []),
        RoundFinished(1, "checkpoints/round-1", 1, 1),
        Note("warning", "look"),
        Evaluated("toxicity", "share", "base", 0.5, 10, 0.1, 0.4, 0.6, 0),
        Evaluated("utility", "perplexity", "base", 20.0, 10, 0.1, 19.0, 21.0, 0),
        Evaluated("toxicity", "share", "policy", 0.3, 10, 0.1, 0.2, 0.4, 1),
        Evaluated("toxicity", "share", "policy", 0.2, 10, 0.1, 0.1, 0.3, 1),
        Evaluated("utility", "perplexity", "policy", 21.0, 10, 0.1, 20.0, 22.0, 1),
        Evaluated("utility", "other", "policy", None, 0),
    )
    ingester.poll()
    return store


def values(answer, *names):
    rows = [tuple(record[name] for name in names) for record in answer.records()]
    return [row[0] for row in rows] if len(names) == 1 else rows


def test_the_run_list_is_newest_first_with_sparklines(two_runs):
    answer = runs.run_list(two_runs, sparklines=("policy/ce", "never logged"))
    assert values(answer, "run_id", "title", "state") == [
        (OTHER, "Control", "finished"),
        (RUN, "Main", "running"),
    ]
    assert values(answer, "policy/ce") == [None, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]]
    assert values(answer, "never logged") == [None, None]
    assert answer.total == 2


def test_a_sparkline_has_at_most_forty_points(store, ingester, run):
    run.say(*(Scalars(1, step, {"a": float(step)}) for step in range(100)))
    ingester.poll()
    [points] = values(runs.run_list(store, sparklines=("a",)), "a")
    assert len(points) == 40
    assert points == sorted(points)


def test_the_run_list_is_searched_filtered_and_paged(two_runs):
    assert values(runs.run_list(two_runs, search="CONTR"), "run_id") == [OTHER]
    assert values(runs.run_list(two_runs, tag="control"), "run_id") == [OTHER]
    assert values(runs.run_list(two_runs, page=Page(1, 1)), "run_id") == [RUN]
    assert runs.run_list(two_runs, page=Page(1, 1)).total == 2
    assert runs.run_list(two_runs, search="nothing").records() == []
    assert runs.tags(two_runs) == ["control"]


def test_archived_runs_are_listed_on_request(store, ingester, run):
    run.labels(archived=True)
    ingester.poll()
    assert runs.run_list(store).total == 0
    assert runs.run_list(store, with_archived=True).total == 1


def test_a_run_record_has_its_settings(two_runs):
    record = runs.run_record(two_runs, RUN)
    assert record is not None
    assert record["settings"]["method"]["kl_weight"] == 1.0
    assert runs.run_record(two_runs, "none") is None


def test_metric_names_come_with_range_and_latest_value(two_runs):
    answer = runs.metric_names(two_runs, [RUN])
    assert values(answer, "name", "n", "low", "high", "last") == [("policy/ce", 8, 0.0, 7.0, 7.0)]


def test_a_short_series_is_complete(two_runs):
    answer = runs.metric_series(two_runs, [RUN, OTHER], ["policy/ce"])
    assert values(answer, "step", "value") == [(step, float(step)) for step in range(8)]


def test_a_long_series_is_cut_into_pieces_with_their_extremes(two_runs):
    answer = runs.metric_series(two_runs, [RUN], ["policy/ce"], points=4)
    assert values(answer, "step", "value", "low", "high", "n") == [
        (1, 0.5, 0.0, 1.0, 2), (3, 2.5, 2.0, 3.0, 2), (5, 4.5, 4.0, 5.0, 2), (7, 6.5, 6.0, 7.0, 2),
    ]  # fmt: skip


def test_pieces_of_a_growing_series_keep_their_place(store, ingester, run):
    run.say(*(Scalars(1, step, {"a": float(step % 7)}) for step in range(90)))
    ingester.poll()
    before = values(runs.metric_series(store, [RUN], ["a"], points=32), "step", "value")
    run.say(*(Scalars(1, step, {"a": float(step % 7)}) for step in range(90, 100)))
    ingester.poll()
    after = values(runs.metric_series(store, [RUN], ["a"], points=32), "step", "value")
    assert after[: len(before) - 1] == before[:-1]


def test_calibration_has_figures_and_reliability(two_runs):
    [record] = runs.calibration(two_runs, [RUN]).records()
    assert (record["round"], record["auc"], record["brier"]) == (1, 0.8, None)
    assert record["reliability"] == RELIABILITY
    assert runs.calibration(two_runs, [OTHER]).total == 0


def test_events_come_newest_first_and_by_kind(two_runs):
    answer = runs.events(two_runs, RUN, kinds=["note", "started"])
    assert values(answer, "kind", "is_undone") == [("note", False), ("started", False)]
    assert runs.events(two_runs, RUN, page=Page(2)).total == 21


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: runs.events(store, RUN),
        lambda store: runs.rounds(store, RUN),
        lambda store: runs.calibration(store, [RUN]),
        lambda store: runs.metric_names(store, [RUN]),
        lambda store: runs.metric_series(store, [RUN], ["policy/ce"]),
    ],
)
def test_rows_of_a_run_are_found_by_its_number_which_skips_those_of_others(two_runs, ask):
    assert str(run_key(RUN)) in ask(two_runs).sql
    assert RUN not in ask(two_runs).sql


def test_rounds_have_checkpoint_and_duration(two_runs):
    [record] = runs.rounds(two_runs, RUN).records()
    assert record["checkpoint"] == "checkpoints/round-1"
    assert record["policy_version"] == 1
    assert record["seconds"] is None


def test_only_settings_that_differ_are_shown(two_runs):
    answer = runs.settings_difference(two_runs, [RUN, OTHER])
    assert values(answer, "setting", RUN, OTHER) == [
        ("method.kl_weight", "1.0", "0.0"),
        ("title", '"Main"', '"Control"'),
    ]


def test_responses_come_with_one_column_for_each_scorer(two_runs):
    answer = rollouts.rollouts(two_runs, RUN)
    assert values(answer, "rollout_id", "score:kind", "score:it's") == [
        ("a", 0.1, 1.0),
        ("b", 0.9, None),
        ("c", 0.5, None),
    ]
    assert rollouts.scorers(two_runs, RUN) == ["it's", "kind"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (RolloutFilter(), ["a", "b", "c"]),
        (RolloutFilter(round=2), ["c"]),
        (RolloutFilter(policy_version=0), ["a", "b"]),
        (RolloutFilter(subject="base"), []),
        (RolloutFilter(prompt_category="weather", purpose="oracle"), ["a", "b", "c"]),
        (RolloutFilter(satisfaction=(0.5, 1.0)), ["a", "c"]),
        (RolloutFilter(text="BLUE"), ["a", "c"]),
        (RolloutFilter(text="the SKY is"), ["a", "b", "c"]),
        (RolloutFilter(text="100%"), []),
        (RolloutFilter(regex=r"\d+$"), ["b"]),
        (RolloutFilter(scores=(ScoreRange("kind", 0.5, 1.0),)), ["b", "c"]),
        (RolloutFilter(scores=(ScoreRange("kind"), ScoreRange("it's", 0.9))), ["a"]),
        (RolloutFilter(text="'; DROP TABLE rollouts; --"), []),
    ],
)
def test_responses_are_filtered(two_runs, wanted, expected):
    answer = rollouts.rollouts(two_runs, RUN, wanted)
    assert values(answer, "rollout_id") == expected
    assert answer.total == len(expected)
    counts = rollouts.histogram(two_runs, RUN, wanted).records()
    assert sum(record["n"] for record in counts) == len(expected)


@pytest.mark.parametrize(
    ("order_by", "descending", "expected"),
    [
        ("round", True, ["c", "a", "b"]),
        ("satisfaction", False, ["b", "c", "a"]),
        ("score:kind", True, ["b", "c", "a"]),
        ("score:it's", False, ["a", "b", "c"]),
        ("n_tokens", True, ["b", "a", "c"]),
    ],
)
def test_responses_are_sorted(two_runs, order_by, descending, expected):
    answer = rollouts.rollouts(two_runs, RUN, order_by=order_by, descending=descending)
    assert values(answer, "rollout_id") == expected
    first = rollouts.rollouts(
        two_runs, RUN, order_by=order_by, descending=descending, page=Page(1, 1)
    )
    assert values(first, "rollout_id") == expected[1:2]
    assert first.total == 3


def test_sorting_by_something_else_names_what_is_allowed(two_runs):
    with pytest.raises(StoreError, match=r"'score:kin' .*satisfaction.*score:kind"):
        rollouts.rollouts(two_runs, RUN, order_by="score:kin")


def test_a_regular_expression_that_cannot_be_read_is_a_sentence(two_runs):
    with pytest.raises(StoreError, match="cannot be answered"):
        rollouts.rollouts(two_runs, RUN, RolloutFilter(regex="("))


def test_one_response_has_all_its_scores(two_runs):
    found = rollouts.rollout(two_runs, RUN, "a")
    assert found is not None
    assert found["scores"] == {"it's": 1.0, "kind": 0.1}
    assert found["response_ids"] == [7]
    assert rollouts.rollout(two_runs, RUN, "none") is None
    assert rollouts.rollout(two_runs, OTHER, "a") is None


def test_a_histogram_counts_by_round_and_bin(two_runs):
    assert values(rollouts.histogram(two_runs, RUN, bins=10), "round", "bin", "n") == [
        (1, 1, 1), (1, 9, 1), (2, 5, 1),
    ]  # fmt: skip
    answer = rollouts.histogram(two_runs, RUN, of="score:it's", bins=10)
    assert values(answer, "round", "bin", "n") == [(1, 9, 1)]


def test_scores_are_summed_up_by_round(two_runs):
    answer = rollouts.score_summary(two_runs, RUN)
    assert values(answer, "round", "scorer", "n", "mean", "share") == [
        (1, "it's", 1, 1.0, 1.0), (1, "kind", 2, 0.5, 0.5), (2, "kind", 1, 0.5, 1.0),
    ]  # fmt: skip


def test_choices_are_the_values_that_occur(two_runs):
    assert rollouts.choices(two_runs, RUN, "round") == [1, 2]


def test_sequences_are_sorted_by_their_kl_with_their_text(two_runs):
    answer = tokens.sequences(two_runs, RUN)
    assert values(answer, "sequence_id", "step", "kl_sum", "n_in_loss", "text") == [
        ("b", 10, 0.75, 1, " sky"),
        ("a", 20, 0.5, 1, "The"),
        ("a", 10, 0.25, 1, "The sky"),
    ]
    assert tokens.sequences(two_runs, RUN, source="corpus").total == 0
    assert tokens.sequences(two_runs, RUN, round_index=1, policy_version=0).total == 3
    for order in tokens.SEQUENCE_ORDERS:
        assert tokens.sequences(two_runs, RUN, order_by=order).total == 3  # pyright: ignore[reportArgumentType]


def test_every_scoring_of_a_sequence_is_found(two_runs):
    assert values(tokens.sequence_versions(two_runs, RUN, "a"), "step") == [10, 20]


def test_the_sum_over_tokens_is_compared_with_what_the_training_pass_logged(two_runs):
    assert values(tokens.sum_check(two_runs, RUN), "kl_sum", "kl_logged", "gap") == [
        (0.25, 0.25, 0.0),
        (0.75, 0.75, 0.0),
        (0.5, 0.5, 0.0),
    ]
    with two_runs.write() as connection:
        connection.execute("UPDATE sequences SET kl_logged = 0.5 WHERE sequence_id = 'b'")
        connection.execute("UPDATE sequences SET kl_logged = NULL WHERE step = 20")
    answer = tokens.sum_check(two_runs, RUN)
    assert values(answer, "sequence_id", "gap") == [("b", 0.25), ("a", 0.0), ("a", None)]
    assert tokens.sum_check(two_runs, RUN, page=Page(1)).total == 3


def test_tokens_of_a_sequence_come_in_order_with_alternatives(two_runs):
    answer = tokens.guidance(two_runs, RUN, "a", step=10)
    assert values(answer, "position", "token_text", "kl_guided_policy") == [
        (0, "The", 0.5),
        (1, " sky", 0.25),
    ]
    assert values(answer, "alternatives") == [[{"id": 7, "text": " blue"}]] * 2


def test_without_a_step_the_latest_scoring_is_shown(two_runs):
    assert values(tokens.guidance(two_runs, RUN, "a"), "step") == [20]
    assert tokens.guidance(two_runs, RUN, "none").records() == []


def test_alternatives_are_none_when_the_shard_is_being_forgotten(two_runs):
    with two_runs.write() as connection:
        connection.execute("DELETE FROM shards")
    answer = tokens.guidance(two_runs, RUN, "b")
    assert values(answer, "alternatives") == [None]


def test_alternatives_are_none_when_the_shard_is_gone(two_runs, tmp_path):
    for path in (tmp_path / RUN / "shards").glob("guidance-*"):
        path.unlink()
    assert values(tokens.guidance(two_runs, RUN, "b"), "alternatives") == [None]


def test_the_most_shifted_tokens_are_those_in_the_loss(two_runs):
    answer = tokens.most_shifted(two_runs, RUN, min_count=1)
    assert values(answer, "token_text", "n", "kl_sum", "shift_mean", "pull_mean") == [
        (" sky", 2, 1.0, 1.0, 0.5),
        ("The", 1, 0.5, 1.0, 0.5),
    ]
    assert tokens.most_shifted(two_runs, RUN, min_count=2).total == 1
    for order in tokens.TOKEN_ORDERS:
        assert tokens.most_shifted(two_runs, RUN, order_by=order).total == 0  # pyright: ignore[reportArgumentType]


def test_shifts_are_split_by_the_verdict_on_the_response(two_runs):
    violated = tokens.most_shifted(two_runs, RUN, among="violated", min_count=1)
    assert values(violated, "token_text", "n", "kl_sum") == [(" sky", 1, 0.75)]
    satisfied = tokens.most_shifted(two_runs, RUN, among="satisfied", min_count=1)
    assert values(satisfied, "n") == [1, 1]


def test_the_latest_of_repeated_evaluations_counts(two_runs):
    answer = evaluations.evaluations(two_runs, [RUN], suite="toxicity")
    assert values(answer, "subject", "value") == [("base", 0.5), ("policy", 0.2)]
    assert evaluations.measures(two_runs).total == 3
    assert evaluations.measures(two_runs, [OTHER]).total == 0


def test_the_trade_off_has_a_point_for_each_policy_with_both_measures(two_runs):
    across, up = Measure("toxicity", "share"), Measure("utility", "perplexity")
    answer = evaluations.trade_off(two_runs, [RUN], across, up)
    assert values(answer, "title", "subject", "x", "x_low", "y", "y_high") == [
        ("Main", "base", 0.5, 0.4, 20.0, 21.0),
        ("Main", "policy", 0.2, 0.1, 21.0, 22.0),
    ]
    assert evaluations.trade_off(two_runs, [RUN], across, Measure("utility", "other")).total == 0


def test_the_audit_of_a_sound_run_is_green(two_runs):
    answer = audit.audit(two_runs, RUN)
    assert all(values(answer, "agrees"))
    assert answer.total >= 10


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("DELETE FROM rollouts WHERE rollout_id = 'a'", "rows of rollouts"),
        ("DELETE FROM rollouts WHERE rollout_id = 'a'", "scores without a rollout"),
        ("INSERT INTO rollouts FROM rollouts LIMIT 1", "rollouts: none stored twice"),
        ("DELETE FROM events WHERE seq = 4", "events: numbered without gaps"),
        ("INSERT INTO events FROM events LIMIT 1", "events: none stored twice"),
        ("UPDATE guidance SET kl_guided_policy = 2", "KL in nats"),
        ("UPDATE sequences SET kl_logged = 2 WHERE sequence_id = 'b'", "sequences whose KL"),
        ("UPDATE shards SET state = 'refused'", "shards of scores that were refused"),
    ],
)
def test_the_audit_of_a_damaged_run_is_red(two_runs, damage, what):
    with two_runs.write() as connection:
        connection.execute(damage)
    bad = [
        record["what"] for record in audit.audit(two_runs, RUN).records() if not record["agrees"]
    ]
    assert any(found.startswith(what) for found in bad)


def test_the_sql_of_an_answer_gives_the_same_rows(two_runs):
    across, up = Measure("toxicity", "share"), Measure("utility", "perplexity")
    wanted = RolloutFilter(text="it's", scores=(ScoreRange("it's"),))
    for answer in (
        runs.run_list(two_runs, search="o'clock", sparklines=("policy/ce",)),
        runs.run_list(two_runs),
        runs.metric_names(two_runs, [RUN]),
        runs.metric_series(two_runs, [RUN], ["policy/ce"]),
        runs.events(two_runs, RUN),
        runs.rounds(two_runs, RUN),
        runs.settings_difference(two_runs, [RUN, OTHER]),
        rollouts.rollouts(two_runs, RUN, wanted, order_by="score:kind"),
        rollouts.histogram(two_runs, RUN),
        rollouts.score_summary(two_runs, RUN),
        tokens.sequences(two_runs, RUN),
        tokens.sequence_versions(two_runs, RUN, "a"),
        tokens.most_shifted(two_runs, RUN),
        tokens.sum_check(two_runs, RUN),
        evaluations.measures(two_runs),
        evaluations.evaluations(two_runs, [RUN]),
        evaluations.trade_off(two_runs, [RUN], across, up),
        audit.audit(two_runs, RUN),
    ):
        assert "$" not in answer.sql
        again = two_runs.frame(answer.sql)
        assert again.astype(str).equals(answer.rows.astype(str))


def test_answers_about_a_run_come_in_pages_and_know_how_many_rows_there_are(two_runs):
    for ask in (
        lambda page: runs.metric_names(two_runs, [RUN, OTHER], page=page),
        lambda page: runs.calibration(two_runs, [RUN], page=page),
        lambda page: runs.rounds(two_runs, RUN, page=page),
        lambda page: runs.settings_difference(two_runs, [RUN, OTHER], page=page),
        lambda page: evaluations.evaluations(two_runs, [RUN], page=page),
    ):
        whole = ask(Page(MAX_PAGE))
        assert whole.total == len(whole.rows) > 0
        parts = [ask(Page(1, offset)) for offset in range(whole.total)]
        assert [part.total for part in parts] == [whole.total] * whole.total
        assert [record for part in parts for record in part.records()] == whole.records()


def test_a_page_is_never_larger_than_the_limit():
    assert Page(10**9, -5).clause() == f"LIMIT {MAX_PAGE} OFFSET 0"
    assert Page(0).clause() == "LIMIT 1 OFFSET 0"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "NULL"), (True, "true"), (False, "false"), (3, "3"), (0.5, "0.5"),
        ("it's", "'it''s'"), (["a", "b"], "['a', 'b']"),
    ],
)  # fmt: skip
def test_values_are_written_as_sql(store, value, text):
    assert literal(value) == text
    [(back,)] = store.rows(f"SELECT {literal(value)}")
    assert back == value


def test_a_value_with_a_dollar_is_not_taken_for_a_name():
    assert written_out("SELECT $a, $b", {"a": "$b", "b": 1}) == "SELECT '$b', 1"
