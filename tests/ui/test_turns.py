"""Who waits for live answers is told how many questions come before."""

import threading
from typing import Any

import pytest
from playwright.sync_api import expect

from acft.ui.web.dom import text_of
from acft.ui.web.turns import MOST_TURNS, SEEN_SECONDS, Turns, line_of
from tests.ui.browser import ready
from tests.ui.conftest import QUICK, FakeModelProcess
from tests.ui.test_stories import PATIENCE

FIRST, SECOND, THIRD = ("a", 1), ("b", 1), ("c", 2)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_who_waits_is_told_all_that_came_before_in_whatever_place_until_it_is_their_turn():
    turns = Turns()
    assert [turns.join(key, {}) for key in (FIRST, SECOND, THIRD)] == [True] * 3
    assert [turns.ahead(key) for key in (FIRST, SECOND, THIRD)] == [0, 1, 2]
    first = turns.begin(FIRST)
    assert first is not None
    assert turns.ahead(FIRST) is None
    assert turns.ahead(SECOND) == 1
    turns.leave(FIRST, first)
    assert [turns.ahead(key) for key in (SECOND, THIRD)] == [0, 1]


def test_a_place_has_one_question_at_a_time_and_a_withdrawn_one_is_not_begun():
    turns = Turns()
    assert turns.join(FIRST, {"id": 1})
    assert not turns.join(FIRST, {"id": 2})
    turns.leave(FIRST)
    assert turns.begin(FIRST) is None
    assert turns.join(FIRST, {"id": 3})
    begun = turns.begin(FIRST)
    assert begun is not None
    assert begun.data == {"id": 3}
    assert turns.begin(FIRST) is None


def test_a_question_that_ends_forgets_no_later_one_of_its_place():
    turns = Turns()
    turns.join(FIRST, {})
    old = turns.begin(FIRST)
    turns.leave(FIRST)
    turns.join(FIRST, {})
    turns.leave(FIRST, old)
    assert turns.ahead(FIRST) == 0


def test_a_tab_that_was_closed_while_it_waited_is_soon_counted_no_more():
    clock = Clock()
    turns = Turns(clock)
    for key in (FIRST, SECOND, THIRD):
        turns.join(key, {})
    clock.now = SEEN_SECONDS / 2
    assert turns.ahead(SECOND) == 1
    clock.now = SEEN_SECONDS + 1
    assert turns.ahead(THIRD) == 1, "the second has given a sign since"
    assert turns.begin(FIRST) is not None
    assert turns.ahead(THIRD) == 2, "what is being answered needs no sign"


def test_a_question_withdrawn_while_its_place_is_told_waits_no_more():
    class Withdrawing(Clock):
        def __call__(self) -> float:
            turns.leave(SECOND)
            return super().__call__()

    turns = Turns(Withdrawing())
    turns.join(FIRST, {})
    turns.join(SECOND, {})
    assert turns.ahead(SECOND) is None
    assert turns.ahead(FIRST) == 0


def test_only_so_many_are_remembered():
    turns = Turns()
    for n in range(MOST_TURNS + 1):
        assert turns.join((str(n), 1), {})
    assert turns.begin(("0", 1)) is None
    assert turns.ahead((str(MOST_TURNS), 1)) == MOST_TURNS - 1


@pytest.mark.parametrize(
    ("ahead", "said"),
    [(None, ""), (0, ""), (1, "1 question is answered before yours."),
     (3, "3 questions are answered before yours.")],
)  # fmt: skip
def test_the_place_in_the_line_is_said_in_words_where_somebody_is_before(ahead, said):
    assert text_of(line_of(ahead)) == said


@pytest.mark.ui
def test_the_second_of_two_tabs_is_told_that_one_is_before_it_until_it_is_answered(
    page, served, monkeypatch
):
    gate, stream = threading.Event(), FakeModelProcess.stream

    def slow(process: Any, *arguments: Any, **named: Any) -> Any:
        gate.wait(60)
        return (yield from stream(process, *arguments, **named))

    monkeypatch.setattr(FakeModelProcess, "stream", slow)
    other = page.context.new_page()
    for tab in (page, other):
        tab.goto(served.link(f"/tokens?run={QUICK}&prompt=a&response=b"))
        ready(tab)
    page.get_by_role("button", name="Score", exact=True).click()
    page.get_by_text("Reading the text").or_(page.get_by_text("Opening the models")).wait_for()
    other.get_by_role("button", name="Score", exact=True).click()
    told = other.get_by_text("1 question is answered before yours.")
    told.wait_for(timeout=PATIENCE)
    gate.set()
    expect(told).to_have_count(0, timeout=PATIENCE)
    other.get_by_text("A text computed now").wait_for(timeout=PATIENCE)
    assert page.get_by_text("is answered before yours").count() == 0
