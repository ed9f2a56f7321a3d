import json

import pytest

from acft.events import Calibration, Evaluated, Note, RoundFinished, Scalars, Started
from acft.store.connection import StoreError
from acft.store.facts import run_key
from acft.store.queries import audit, evaluations, rollouts, runs, tokens
from acft.store.queries.answer import MAX_ROWS, Slice, literal, written_out
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


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: rollouts.rollouts(store, RUN),
        lambda store: rollouts.histogram(store, RUN),
        lambda store: tokens.sequences(store, RUN),
        lambda store: tokens.sequence_versions(store, RUN, "a"),
        lambda store: tokens.most_shifted(store, RUN),
    ],
)
def test_rows_of_a_run_are_found_by_its_number_which_skips_those_of_others(two_runs, ask):
    assert str(run_key(RUN)) in ask(two_runs).sql
    assert RUN not in ask(two_runs).sql


def test_only_settings_that_differ_are_shown(two_runs):
    answer = runs.settings_difference(two_runs, [RUN, OTHER])
    assert values(answer, "setting", RUN, OTHER) == [
        ("method.kl_weight", "1.0", "0.0"),
        ("title", "Main", "Control"),
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
        (RolloutFilter(purpose="oracle"), ["a", "b", "c"]),
        (RolloutFilter(text="BLUE"), ["a", "c"]),
        (RolloutFilter(text="the SKY is"), ["a", "b", "c"]),
        (RolloutFilter(text="100%"), []),
        (RolloutFilter(regex=r"\d+$"), ["b"]),
        (RolloutFilter(regex=r"^The sky is$"), ["a", "b", "c"]),
        (RolloutFilter(scores=(ScoreRange("kind", 0.5, 1.0),)), ["b", "c"]),
        (RolloutFilter(scores=(ScoreRange("kind"), ScoreRange("it's", 0.9))), ["a"]),
        (RolloutFilter(scores=(ScoreRange("", 0.9),)), ["a", "b"]),
        (RolloutFilter(tokens=(2, 5)), ["b"]),
        (RolloutFilter(tokens=(0, 1)), ["a", "c"]),
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
        two_runs, RUN, order_by=order_by, descending=descending, part=Slice(1, 1)
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


def test_choices_are_the_values_that_occur(two_runs):
    assert rollouts.choices(two_runs, RUN, "round") == [1, 2]


def test_sequences_are_sorted_by_their_kl_with_their_text(two_runs):
    answer = tokens.sequences(two_runs, RUN)
    assert values(answer, "sequence_id", "step", "kl_sum", "n_in_loss", "text", "response") == [
        ("b", 10, 0.75, 1, " sky", " sky"),
        ("a", 20, 0.5, 1, "The", "The"),
        ("a", 10, 0.25, 1, "The sky", " sky"),
    ]
    assert values(answer, "sequence_id", "toxicity") == [("b", 0.9), ("a", 1.0), ("a", 1.0)]
    assert all(values(answer, "prompt_text"))
    for order in tokens.SEQUENCE_ORDERS:
        assert tokens.sequences(two_runs, RUN, order_by=order).total == 3  # pyright: ignore[reportArgumentType]


def test_every_scoring_of_a_sequence_is_found(two_runs):
    assert values(tokens.sequence_versions(two_runs, RUN, "a"), "step") == [10, 20]


def test_the_sum_over_tokens_is_compared_with_what_the_training_pass_logged(two_runs):
    sound = {"n_logged": 3, "n_wrong": 0, "largest": 0.0}
    assert tokens.sum_check(two_runs, RUN, 1e-4) == sound
    with two_runs.write() as connection:
        connection.execute("UPDATE sequences SET kl_logged = 0.5 WHERE sequence_id = 'b'")
        connection.execute("UPDATE sequences SET kl_logged = NULL WHERE step = 20")
    assert tokens.sum_check(two_runs, RUN, 1e-4) == {"n_logged": 2, "n_wrong": 1, "largest": 0.25}
    assert tokens.sum_check(two_runs, RUN, 0.25)["n_wrong"] == 0
    none = {"n_logged": 0, "n_wrong": 0, "largest": None}
    assert tokens.sum_check(two_runs, OTHER, 1e-4) == none


def test_token_values_that_begin_later_have_no_first_token(two_runs):
    assert tokens.has_first_token(two_runs, RUN, "a")
    with two_runs.write() as connection:
        connection.execute("DELETE FROM guidance WHERE position = 0")
    assert not tokens.has_first_token(two_runs, RUN, "a")
    assert not tokens.has_first_token(two_runs, RUN, "none")


def test_runs_that_measure_another_are_found_newest_first(two_runs):
    with two_runs.write() as connection:
        connection.execute("UPDATE runs SET subject = 'x'")
    answer = runs.measurements(two_runs, "x")
    assert values(answer, "run_id") == [OTHER, RUN]
    assert runs.measurements(two_runs, RUN).total == 0


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
    answer = tokens.most_shifted(two_runs, RUN)
    assert values(answer, "token_text", "n", "kl_sum", "shift_mean", "pull_mean") == [
        (" sky", 2, 1.0, 1.0, 0.5),
        ("The", 1, 0.5, 1.0, 0.5),
    ]


def test_shifts_are_split_by_the_verdict_on_the_response(two_runs):
    violated = tokens.most_shifted(two_runs, RUN, among="violated")
    assert values(violated, "token_text", "n", "kl_sum") == [(" sky", 1, 0.75)]
    satisfied = tokens.most_shifted(two_runs, RUN, among="satisfied")
    assert values(satisfied, "n") == [1, 1]


def test_satisfaction_of_exactly_a_half_is_no_satisfied_constraint(two_runs):
    with two_runs.write() as connection:
        connection.execute("UPDATE rollouts SET satisfaction = 0.5")
    assert tokens.most_shifted(two_runs, RUN, among="satisfied").total == 0
    violated = tokens.most_shifted(two_runs, RUN, among="violated")
    assert violated.rows.equals(tokens.most_shifted(two_runs, RUN).rows)


def test_what_was_measured_is_counted_by_runs(two_runs):
    found = evaluations.measures(two_runs)
    assert found.total == 3
    assert {len(row["policies"] or ()) for row in found.records()} == {0, 2}


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


def test_one_row_of_many_that_is_missing_or_doubled_is_seen(two_runs):
    with two_runs.write() as connection:
        connection.execute(
            "UPDATE shards SET rows = rows + 20000 WHERE table_name = 'guidance'; "
            "INSERT INTO guidance SELECT guidance.* FROM guidance, range(5000) LIMIT 19999"
        )
    by_name = {r["what"]: r for r in audit.audit(two_runs, RUN).records()}
    rows = next(r for what, r in by_name.items() if what.startswith("rows of guidance"))
    assert rows["expected"] - rows["found"] == 1
    assert rows["is_count"]
    assert not rows["agrees"]


def test_how_much_of_a_run_was_taken_in_is_told(two_runs):
    assert audit.taken_in(two_runs, RUN) == (21, 3)
    assert audit.taken_in(two_runs, "no-such-run") == (0, 0)


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
        runs.settings_difference(two_runs, [RUN, OTHER]),
        runs.measurements(two_runs, RUN),
        rollouts.rollouts(two_runs, RUN, wanted, order_by="score:kind"),
        rollouts.histogram(two_runs, RUN),
        tokens.sequences(two_runs, RUN),
        tokens.sequence_versions(two_runs, RUN, "a"),
        tokens.most_shifted(two_runs, RUN),
        evaluations.measures(two_runs),
        evaluations.trade_off(two_runs, [RUN], across, up),
        audit.audit(two_runs, RUN),
    ):
        assert "$" not in answer.sql
        again = two_runs.frame(answer.sql)
        assert again.astype(str).equals(answer.rows.astype(str))


def test_long_answers_come_in_slices_and_know_how_many_rows_there_are(two_runs):
    for ask in (
        lambda part: runs.settings_difference(two_runs, [RUN, OTHER], part=part),
        lambda part: rollouts.rollouts(two_runs, RUN, part=part),
        lambda part: tokens.sequences(two_runs, RUN, part=part),
        lambda part: tokens.most_shifted(two_runs, RUN, part=part),
    ):
        whole = ask(Slice(MAX_ROWS))
        assert whole.total == len(whole.rows) > 0
        parts = [ask(Slice(1, offset)) for offset in range(whole.total)]
        assert [part.total for part in parts] == [whole.total] * whole.total
        assert [record for part in parts for record in part.records()] == whole.records()


def test_a_slice_is_never_larger_than_the_limit():
    assert Slice(10**9, -5).clause() == f"LIMIT {MAX_ROWS} OFFSET 0"
    assert Slice(0).clause() == "LIMIT 1 OFFSET 0"


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
