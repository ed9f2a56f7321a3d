import json

import pytest

from acft.store import journal
from acft.store.connection import open_memory_store
from acft.store.journal import FILE, load_journal, record_comparison, record_vote
from acft.store.queries.comparisons import newest_votes


def test_comparisons_and_votes_outlive_the_database(store, tmp_path):
    comparison = record_comparison(store, {"left": "base", "right": "run", "seed": 3})
    record_vote(store, comparison, "prompt 1", "right")
    record_vote(store, comparison, "prompt 2", "tie")
    fresh = open_memory_store(tmp_path)
    load_journal(fresh)
    [(found, body)] = fresh.rows("SELECT comparison_id, body FROM comparisons")
    assert found == comparison
    assert json.loads(body)["right"] == "run"
    assert fresh.rows("SELECT item, choice FROM votes ORDER BY time") == [
        ("prompt 1", "right"),
        ("prompt 2", "tie"),
    ]
    for table in ("comparisons", "votes"):
        assert store.rows(f"FROM {table}") == fresh.rows(f"FROM {table}")


def test_the_newest_vote_for_an_item_counts(store):
    sides = {"run": "r", "other": "r", "left": "base-0", "right": "policy-1"}
    first, second = record_comparison(store, sides), record_comparison(store, sides)
    elsewhere = record_comparison(store, {**sides, "right": "policy-2"})
    for comparison, item, choice in (
        (first, "a", "left"), (first, "b", "tie"), (second, "a", "right"), (elsewhere, "b", "left"),
    ):  # fmt: skip
        record_vote(store, comparison, item, choice)
    assert newest_votes(store, **sides) == {"a": "right", "b": "tie"}
    assert newest_votes(store, **{**sides, "run": "none"}) == {}


def test_loading_twice_doubles_nothing(store):
    record_comparison(store, {})
    load_journal(store)
    assert store.rows("SELECT count(*) FROM comparisons") == [(1,)]


def test_a_vote_adds_one_row_and_reads_no_other(store, monkeypatch):
    comparison = record_comparison(store, {})
    monkeypatch.setattr(journal, "_read", lambda _: pytest.fail("the file was read"))
    record_vote(store, comparison, "a", "left")
    record_vote(store, comparison, "a", "right")
    assert store.rows("SELECT choice FROM votes ORDER BY time") == [("left",), ("right",)]


def test_without_a_file_there_are_no_comparisons(store):
    load_journal(store)
    assert store.rows("SELECT count(*) FROM comparisons") == [(0,)]


def test_a_line_cut_short_is_left_out_and_spoils_no_other(store, tmp_path):
    record_comparison(store, {"name": "first"})
    with (tmp_path / FILE).open("a") as file:
        file.write('{"kind": "comparison", "compar')
    record_comparison(store, {"name": "second"})
    names = [json.loads(body)["name"] for (body,) in store.rows("SELECT body FROM comparisons")]
    assert names == ["first", "second"]


def test_lines_that_are_no_entries_are_left_out(store, tmp_path):
    lines = ["[]", "7", '{"kind": "vote"}', '{"kind": "dream", "time": 1}']
    lines.append('{"kind": "comparison", "comparison_id": "a", "time": "yesterday"}')
    (tmp_path / FILE).write_text("\n".join([*lines, ""]))
    load_journal(store)
    assert store.rows("SELECT count(*) FROM votes") == [(0,)]
