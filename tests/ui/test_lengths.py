"""Responses and pairs by their length in tokens, with the numbers of each slice."""

import re
from dataclasses import replace

import pytest

from acft.ui.pages import compare, rollouts
from acft.ui.reading import comparing
from acft.ui.reading.lengths import NAMES, lengths, said
from acft.ui.web.dom import text_of
from tests.ui.conftest import QUICK, visit
from tests.ui.test_filters import labelled, nodes


@pytest.mark.parametrize("longest", [0, 1, 2, 3, 20, 31])
def test_every_length_belongs_to_one_slice(longest):
    slices = lengths(longest).values()
    for n in range(longest + 1):
        assert sum(low <= n <= high for low, high in slices) == 1


def test_slices_are_thirds_of_the_longest_and_say_their_tokens():
    bounds = lengths(20)
    assert [said(name, bounds) for name in bounds] == [
        "short, 0 to 6 tokens", "medium, 7 to 13 tokens", "long, 14 to 20 tokens",
    ]  # fmt: skip


def options(shown, label="Length of the response"):
    [menu] = [n for n in nodes(shown) if n[1].get("aria-label") == label]
    return {option[1]["value"]: text_of(option) for option in menu[2:]}


def test_pairs_are_filtered_by_the_longer_response_and_each_slice_tells_its_number(bench):
    found = compare.compared(bench, visit(QUICK))
    assert found is not None
    bounds = comparing.lengths_of(found.pairs)
    menu = options(compare.listing(bench, visit(QUICK)))
    n_all = 0
    for name, (low, high) in bounds.items():
        left = comparing.searched(found.pairs, replace(found.choice, length=name))
        assert all(low <= max(p.left.n_tokens, p.right.n_tokens) <= high for p in left)
        assert menu[name] == f"{said(name, bounds)} ({len(left)})"
        tab = text_of(compare.listing(bench, visit(QUICK, length=name)))
        assert re.search(rf"all{len(left)}(?![\d,])", tab)
        n_all += len(left)
    assert n_all == len(found.pairs)
    assert comparing.searched(found.pairs, replace(found.choice, length="odd")) == found.pairs


def test_the_numbers_of_lengths_are_of_what_search_and_category_leave(bench):
    found = compare.compared(bench, visit(QUICK))
    assert found is not None
    kind = found.pairs[0].left.category
    menu = options(compare.listing(bench, visit(QUICK, category=kind, length="short")))
    numbers = [int(text.rpartition("(")[2].rstrip(")")) for name, text in menu.items() if name]
    assert sum(numbers) == sum(pair.left.category == kind for pair in found.pairs)


def test_a_search_that_cannot_be_read_leaves_the_lengths_their_menu(bench):
    menu = options(compare.listing(bench, visit(QUICK, find="/[/")))
    assert all(text.endswith("(0)") for name, text in menu.items() if name)


def test_rollouts_are_filtered_by_their_own_length(bench):
    run = bench.reader.run(QUICK)
    totals = [rollouts.answer(bench, visit(QUICK, length=name), run).total for name in NAMES]
    assert sum(totals) == rollouts.answer(bench, visit(QUICK), run).total
    longest = max(totals.index(n) for n in totals if n)
    name = NAMES[longest]
    shown = rollouts.listing(bench, visit(QUICK, length=name))
    low, high = lengths(rollouts.ask.longest(bench.store, QUICK))[name]
    found = rollouts.answer(bench, visit(QUICK, length=name), run).records()
    assert all(low <= row["n_tokens"] <= high for row in found)
    assert name in options(shown)
    assert labelled(shown, "Length of the response")["data-clear"] == "part"


def test_a_length_of_the_address_that_there_is_not_is_named_and_marked(bench):
    shown = rollouts.listing(bench, visit(QUICK, length="tall"))
    assert "length 'tall' is none of short, medium, long" in text_of(shown)
    assert labelled(shown, "Length of the response")["aria-invalid"] == "true"


def test_of_a_length_that_a_run_does_not_have_no_rollout_is_shown(bench, monkeypatch):
    monkeypatch.setattr(rollouts.ask, "longest", lambda *_: 0)
    seen = visit(QUICK, length="long")
    assert rollouts.answer(bench, seen, bench.reader.run(QUICK)).total == 0
    shown, figure, _ = rollouts.contents(bench, seen)
    assert options(shown)["long"] == "length long (not in this run)"
    assert "No rollout passes these filters." in text_of(shown)
    assert not figure["data"]


def test_the_longest_response_is_looked_for_once_a_drawing(bench, monkeypatch):
    asked, longest = [], rollouts.ask.longest
    monkeypatch.setattr(rollouts.ask, "longest", lambda *a: asked.append(a) or longest(*a))
    rollouts.contents(bench, visit(QUICK))
    assert len(asked) == 1


def test_a_length_that_a_comparison_does_not_have_is_told_with_what_is_shown(bench):
    shown = text_of(compare.summary(bench, visit(QUICK, length="tall")))
    assert "length 'tall' is not there; any length is shown instead." in shown
    assert "is not there" not in text_of(compare.summary(bench, visit(QUICK, length="short")))
