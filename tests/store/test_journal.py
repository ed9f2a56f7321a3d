import json

from acft.store.connection import open_memory_store
from acft.store.journal import FILE, load_journal, record_comparison, record_vote
from acft.store.queries.answer import Page
from acft.store.queries.comparisons import comparisons, vote_counts


def test_comparisons_and_votes_outlive_the_database(store, tmp_path):
    comparison = record_comparison(store, {"left": "base", "right": "run", "seed": 3})
    record_vote(store, comparison, "prompt 1", "right", {"rater": "a"})
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
    first, second = record_comparison(store, {}), record_comparison(store, {})
    for item, choice in (("a", "left"), ("b", "tie"), ("a", "right"), ("c", "right")):
        record_vote(store, first, item, choice)
    counts = vote_counts(store, first).records()
    assert counts == [{"choice": "right", "n": 2}, {"choice": "tie", "n": 1}]
    listed = comparisons(store, page=Page(1))
    assert [(row["comparison_id"], row["n_judged"]) for row in listed.records()] == [(second, 0)]
    assert listed.total == 2
    assert vote_counts(store, second).records() == []


def test_loading_twice_doubles_nothing(store):
    record_comparison(store, {})
    load_journal(store)
    assert store.rows("SELECT count(*) FROM comparisons") == [(1,)]


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
