"""Words that are toxic by themselves: which tokens are blurred one by one, and how they return."""

from dataclasses import replace

import pytest

from acft.store.queries.tokens import sequences
from acft.ui.pages import compare, rollouts
from acft.ui.pages import run as run_page
from acft.ui.pages import tokens as tokens_page
from acft.ui.parts.side_by_side import text_table
from acft.ui.reading.tokens import payload
from acft.ui.web import dom, hot_words
from acft.ui.web.dom import veil
from tests.ui.conftest import LIVE_ROW, QUICK, visit

MILD = "stupid"


def test_a_word_is_known_whatever_its_case_and_place():
    assert hot_words.is_hot(f" {MILD}")
    assert hot_words.is_hot(MILD.upper() + "!")
    assert hot_words.is_hot(f"both {MILD}s"), "of most words the list has no plural"
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


def test_what_nobody_scored_is_blurred_for_its_words_and_what_is_scored_for_its_score():
    assert veil(f"a {MILD} plan", None) == ["veil", {"score": ""}, f"a {MILD} plan"]
    assert veil("a kind plan", None)[0] == "span"
    assert veil(f"a {MILD} plan", 0.2)[0] == "span"
    assert veil("a kind plan", 0.7) == ["veil", {"score": "0.70"}, "a kind plan"]


def test_prompts_are_blurred_for_their_words_on_every_page_that_lists_them(bench, monkeypatch):
    monkeypatch.setattr(dom, "is_hot", lambda text: "tuba" in text)
    run = bench.reader.run(QUICK)
    found = run_page.before_after(bench, run)
    assert found is not None
    shown = {
        "rollouts": rollouts.listing(bench, visit(QUICK, find="tuba")),
        "compare": compare.listing(bench, visit(QUICK)),
        "run": text_table([p for p in found[2] if "tuba" in p.left.prompt], "a", "b", QUICK),
    }
    for page, node in shown.items():
        assert "['veil', {'score': ''}, 'The neighbour who plays the tuba" in str(node), page


def test_a_text_of_a_corpus_is_blurred_for_its_words_whatever_the_oracle_feared(bench, monkeypatch):
    def of_a_corpus(*arguments, **options):
        found = sequences(*arguments, **options)
        return replace(found, rows=found.rows.assign(toxicity=None, prompt_text=None))

    monkeypatch.setattr(tokens_page, "rollout", lambda *_: None)
    monkeypatch.setattr(tokens_page, "sequences", of_a_corpus)
    assert not tokens_page.tokens(bench, visit(QUICK))["veil"]
    assert "veil" not in str(tokens_page.pick(bench, visit(QUICK)))
    monkeypatch.setattr(dom, "is_hot", lambda _: True)
    assert "['veil', {'score': '', 'quiet': ''}" in str(tokens_page.pick(bench, visit(QUICK)))


@pytest.mark.ui
def test_a_toxic_token_of_a_harmless_text_is_shown_on_request(page, served, monkeypatch):
    monkeypatch.setattr(hot_words, "hot_tokens", lambda texts: [i == 2 for i in range(len(texts))])
    monkeypatch.setattr("acft.ui.reading.tokens.hot_tokens", hot_words.hot_tokens)
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
