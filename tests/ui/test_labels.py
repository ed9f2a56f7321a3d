"""Tags and notes: who may change them, how runs are found by them."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import expect

from acft.errors import AcftError, ConfigError
from acft.ui.pages import compare, tradeoff
from acft.ui.pages import runs as page
from acft.ui.parts import labels, runs_menu
from acft.ui.parts.run_head import head
from acft.ui.web.dom import text_of
from tests.ui.browser import ready
from tests.ui.conftest import CONTROL, QUICK, visit
from tests.ui.test_stories import PATIENCE, server, state  # noqa: F401 - a fixture


@pytest.fixture
def labelled(bench):
    """A workbench whose quickstart is tagged; labels are as before afterwards."""
    bench.control.label(QUICK, tags=("paper", "seed 1"), notes="the first try")
    yield bench
    bench.control.label(QUICK, tags=(), notes="", archived=False)


def test_tags_are_separated_by_commas_and_tidied():
    assert labels.changes({"what": "tags", "value": " a,b  c,, a "}) == {"tags": ("a", "b c")}
    assert labels.changes({"what": "notes", "value": " x\ny "}) == {"notes": "x\ny"}
    assert labels.changes({"what": "archived", "value": True}) == {"archived": True}


@pytest.mark.parametrize("data", [
    {"what": "tags", "value": "x" * 41}, {"what": "tags", "value": ",".join("abcdefghijklm")},
    {"what": "notes", "value": "x" * 2001}, {"what": "title", "value": "x"},
    {"what": "archived", "value": "yes"}, {},
])  # fmt: skip
def test_what_is_no_label_or_too_long_is_refused(data):
    with pytest.raises(ConfigError):
        labels.changes(data)


def test_a_refusal_of_tags_names_the_limit_that_was_broken():
    with pytest.raises(ConfigError, match=r"^the tag 'x+' has 41 letters; at most 40 are kept"):
        labels.changes({"what": "tags", "value": "fine, " + "x" * 41})
    with pytest.raises(ConfigError, match=r"^13 tags; at most 12 are kept"):
        labels.changes({"what": "tags", "value": ",".join("abcdefghijklm")})


def test_a_row_of_a_run_is_known_by_the_run_so_that_a_new_run_does_not_close_its_editor(bench):
    drawn = json.dumps(page.overview(bench, visit()))
    assert f'["tr", {{"key": "{QUICK}"}}' in drawn


def test_archived_runs_are_in_no_menu_but_their_own(labelled):
    labelled.control.label(QUICK, archived=True)
    assert QUICK not in str(runs_menu.menu(labelled, CONTROL))
    assert CONTROL in str(runs_menu.menu(labelled, CONTROL))
    assert QUICK in str(runs_menu.menu(labelled, QUICK))


def test_no_page_opens_an_archived_run_unasked_while_there_is_another(labelled):
    pages = (runs_menu.chosen_run, compare.opened_run)
    for find in pages:

        def opened(run_id: str = "", find: Any = find) -> str:
            return find(labelled, visit(run_id)).run_id

        first = opened()
        labelled.control.label(first, archived=True)
        second, asked = opened(), opened(first)
        labelled.control.label(first, archived=False)
        assert second != first
        assert asked == first


def test_archived_runs_are_left_out_of_the_trade_off(labelled):
    before = tradeoff.drawn(labelled, visit())
    labelled.control.label(QUICK, archived=True)
    shown = tradeoff.drawn(labelled, visit())
    assert QUICK in {point["run_id"] for point in before.points}
    assert {point["run_id"] for point in shown.points} == {
        point["run_id"] for point in before.points
    } - {QUICK}
    assert shown.n_policies < before.n_policies


def test_runs_are_found_by_tag_and_by_note(labelled):
    listed = text_of(page.overview(labelled, visit(tag="paper")))
    assert QUICK in listed
    assert CONTROL not in listed
    assert "paper (1)" in listed
    assert QUICK in text_of(page.overview(labelled, visit(find="first try")))
    assert "No run passes" in text_of(page.overview(labelled, visit(tag="unknown")))


def test_archived_runs_are_left_out_until_asked_for(labelled):
    labelled.control.label(QUICK, archived=True)
    assert QUICK not in text_of(page.overview(labelled, visit()))
    assert "1 archived too" in text_of(page.overview(labelled, visit()))
    assert QUICK in text_of(page.overview(labelled, visit(archived="true")))


def test_tags_and_notes_stand_apart_from_what_is_before_them(labelled):
    labelled.control.label(QUICK, archived=True)
    shown = text_of(head(labelled.reader.run(QUICK), visit()))
    assert "ago · paper seed 1 archived · the first try" in shown


def test_only_who_may_change_runs_gets_fields(labelled):
    assert "Edit tags" not in text_of(page.overview(labelled, visit()))
    assert "Edit tags" in text_of(page.overview(labelled, visit(may_change=True)))


def test_labels_of_runs_that_another_process_supervises_stay(labelled):
    labelled.control.owner = lambda: "the workbench with pid 7"
    with pytest.raises(AcftError, match="pid 7"):
        labelled.control.label(QUICK, tags=("x",))
    labelled.control.owner = lambda: ""


@pytest.mark.ui
def test_a_note_typed_while_the_tags_before_it_are_saved_stays_whole(page, served):
    page.goto(served.link("/"))
    row = page.locator("tr", has_text=QUICK)
    row.get_by_text("Edit tags and notes").click()
    row.get_by_label("Tags, separated by commas").fill("paper")
    page.keyboard.press("Tab")
    page.keyboard.type("typed at once")
    row.locator("a.chip", has_text="paper").wait_for(timeout=PATIENCE)
    page.keyboard.type(" and on")
    page.keyboard.press("Tab")
    row.locator(".notes", has_text="typed at once and on").wait_for(timeout=PATIENCE)
    assert row.get_by_label("Notes", exact=True).is_visible()
    served.bench.control.label(QUICK, tags=(), notes="")


@pytest.mark.ui
def test_a_run_is_tagged_and_found_by_its_tag(page, server):  # noqa: F811
    page.goto(server.link("/"))
    page.get_by_role("button", name="Start the quickstart run").first.click()
    page.wait_for_url(re.compile(r"/run\?run="), timeout=PATIENCE)
    state(page, "running")
    page.get_by_text("Edit tags and notes").click()
    page.get_by_label("Tags, separated by commas").fill("paper, first")
    page.get_by_label("Notes", exact=True).fill("higher rate")
    page.get_by_label("Notes", exact=True).blur()
    page.locator(".notes", has_text="higher rate").wait_for(timeout=PATIENCE)
    page.locator("a.chip", has_text="paper").click()
    page.get_by_role("combobox", name="Tag").wait_for(timeout=PATIENCE)
    assert page.get_by_role("combobox", name="Tag").input_value() == "paper"
    page.get_by_text("higher rate").first.wait_for(timeout=PATIENCE)
    (run,) = [path for path in server.runs.iterdir() if path.is_dir()]
    assert json.loads((run / "labels.json").read_text())["tags"] == ["first", "paper"]
    server.open_gate()


@pytest.mark.ui
def test_a_field_whose_content_was_refused_is_marked_until_other_content_is_kept(page, served):
    page.goto(served.link(f"/run?run={CONTROL}"))
    ready(page)
    page.get_by_text("Edit tags and notes").click()
    field = page.get_by_label("Tags, separated by commas")
    field.fill("x" * 41)
    field.blur()
    expect(field).to_have_attribute("aria-invalid", "true")
    edge, bad = page.evaluate(
        """field => [getComputedStyle(field).borderTopColor,
        getComputedStyle(document.querySelector('.labels label'), '::after').content]""",
        field.element_handle(),
    )
    assert (edge, bad) == ("rgb(176, 58, 38)", '"not kept"')
    field.fill("")
    field.blur()
    expect(field).not_to_have_attribute("aria-invalid", "true")
