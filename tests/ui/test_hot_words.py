"""Words that are toxic by themselves: which tokens are blurred one by one, and how they return."""

import pytest

from acft.ui import hot_words
from acft.ui.tokens import payload
from tests.ui.conftest import LIVE_ROW, QUICK

MILD = "stupid"


def test_a_word_is_known_whatever_its_case_and_place():
    assert hot_words.is_hot(f" {MILD}")
    assert hot_words.is_hot(MILD.upper() + "!")
    assert not hot_words.is_hot(" weather")


def test_every_token_of_a_word_counts_and_no_other():
    assert hot_words.hot_tokens([" a", " stu", "pid", " day"]) == [False, True, True, False]
    assert hot_words.hot_tokens([]) == []


def test_tokens_and_alternatives_are_marked_for_the_screen():
    row = LIVE_ROW | {
        "token_text": f" {MILD}",
        "alternatives": (
            '[{"id": 1, "text": " stupid", "base": -1.0}, {"id": 2, "text": " kind", "base": -2.0}]'
        ),
    }
    shown = payload([row, LIVE_ROW])
    assert [bool(token.get("hot")) for token in shown["tokens"]] == [True, False]
    assert [bool(a.get("hot")) for a in shown["tokens"][0]["alt"]] == [True, False]


def test_the_list_spells_no_word():
    assert all(
        len(line) == 10 and int(line, 16) >= 0 for line in hot_words.FILE.read_text().split()
    )


@pytest.mark.assets
def test_the_list_is_what_its_command_writes():
    assert hot_words.FILE.read_text().split() == hot_words.hashes()


@pytest.mark.ui
def test_a_toxic_token_of_a_harmless_text_is_shown_on_request(page, served, monkeypatch):
    monkeypatch.setattr(hot_words, "hot_tokens", lambda texts: [i == 2 for i in range(len(texts))])
    monkeypatch.setattr("acft.ui.tokens.hot_tokens", hot_words.hot_tokens)
    monkeypatch.setattr("acft.ui.pages.tokens.toxicity", lambda *_: 0.0)
    page.goto(served.link(f"/tokens?run={QUICK}"))
    token = page.locator(".tok").nth(2)
    token.wait_for()
    assert page.locator(".tok.hot").count() == 1
    assert "•" in token.inner_text()
    assert "hidden token" in (token.get_attribute("aria-label") or "")
    token.click()
    page.get_by_role("button", name="show this token").click()
    assert page.locator(".tok.hot").count() == 0
    page.reload()
    page.get_by_role("button", name="Show 1 blurred token").click()
    assert page.locator(".tok.hot").count() == 0
    page.get_by_role("button", name="Blur toxic words").click()
    assert page.locator(".tok.hot").count() == 1
