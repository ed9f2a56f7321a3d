"""Editing settings in a real browser: every edit counts, however fast the next one follows."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ui.browser import Watch, shoot
from tests.ui.test_stories import PATIENCE, Server

pytestmark = pytest.mark.ui
WRONG = "title = 3\n"
FILL_AT_ONCE = """(values) => {
  for (const [name, value] of Object.entries(values)) {
    const field = document.getElementById(`f-${name}`);
    field.focus();
    field.value = value;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.dispatchEvent(new Event("change", { bubbles: true }));
  }
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("drafts"))
    made.preset("quickstart")
    for name in ("other", "third"):
        made.preset(name)
        with (made.experiments / f"{name}.toml").open("a") as file:
            file.write(f"# {name}\n")
    made.start()
    yield made
    made.kill()
    made.open_gate()  # workers that wait there end


@pytest.fixture
def launch(page: Any, server: Server) -> Iterator[Any]:
    watch = Watch(page, server.address)
    page.set_viewport_size({"width": 1440, "height": 900})
    opened(page, server, "/launch?preset=quickstart")
    yield page
    watch.check()


def opened(page: Any, server: Server, path: str) -> None:
    page.goto(server.link(path))
    page.get_by_text("Ready.").wait_for(timeout=PATIENCE)
    checked(page)


def checked(page: Any) -> None:
    page.wait_for_function("!document.body.classList.contains('unchecked')", timeout=PATIENCE)


def text(page: Any) -> Any:
    return page.get_by_label("Settings (TOML)")


def bad(page: Any) -> None:
    page.get_by_text("1 problem to fix").wait_for(timeout=PATIENCE)


def good(page: Any) -> None:
    page.get_by_text("Ready.").wait_for(timeout=PATIENCE)


def test_text_that_is_pasted_deleted_or_cut_is_checked(launch):
    for remove in ("Delete", "Control+X", "Backspace"):
        text(launch).click()
        launch.keyboard.press("Control+A")
        launch.keyboard.insert_text(WRONG)
        bad(launch)
        assert launch.get_by_role("button", name="Launch", exact=True).is_disabled()
        launch.keyboard.press("Control+A")
        launch.keyboard.press(remove)
        good(launch)
    launch.keyboard.insert_text(WRONG)
    launch.keyboard.press("Control+A")
    launch.keyboard.press("Control+C")
    launch.keyboard.press("Delete")
    good(launch)
    launch.keyboard.press("Control+V")
    bad(launch)
    assert text(launch).input_value() == WRONG


def test_fields_changed_one_right_after_the_other_are_all_kept(launch):
    values = {"title": "Quick", "notes": "hands", "schedule.rounds": "7", "device": "cpu"}
    launch.evaluate(FILL_AT_ONCE, values)
    checked(launch)
    written = text(launch).input_value()
    for line in ('title = "Quick"', 'notes = "hands"', "rounds = 7", 'device = "cpu"'):
        assert line in written
    shown = "(names) => names.map((name) => document.getElementById(`f-${name}`).value)"
    assert launch.evaluate(shown, list(values)) == list(values.values())


def test_a_field_changed_while_an_answer_is_on_its_way_is_kept(launch):
    for pause in (0, 50, 150, 350, 400):
        launch.evaluate(FILL_AT_ONCE, {"title": f"Title {pause}"})
        launch.wait_for_timeout(pause)
        launch.evaluate(FILL_AT_ONCE, {"notes": f"Notes {pause}"})
        checked(launch)
        written = text(launch).input_value()
        assert f"Title {pause}" in written
        assert f"Notes {pause}" in written


def test_an_impatient_click_removes_one_entry(launch):
    launch.evaluate("""() => {
      const remove = document.querySelector("[aria-label='Remove corpus 1']");
      remove.click();
      remove.click();
    }""")
    checked(launch)
    assert text(launch).input_value().count("[[corpus]]") == 1


def test_an_emptied_field_shows_its_default_again(launch):
    rounds = launch.get_by_role("textbox", name="rounds")
    rounds.fill("")
    checked(launch)
    rounds.blur()
    assert rounds.input_value() == "3"
    assert "rounds" not in text(launch).input_value()


def test_launch_waits_for_what_was_typed_just_before(launch, server):
    launch.get_by_role("textbox", name="rounds").fill("9")
    launch.get_by_role("button", name="Launch", exact=True).click()
    launch.wait_for_url(re.compile(r"/run\?run="), timeout=PATIENCE)
    run = launch.url.partition("run=")[2].partition("&")[0]
    assert "rounds = 9" in (server.runs / run / "spec.toml").read_text()


def test_launch_does_not_start_what_turns_out_to_be_wrong(launch, server):
    before = len(list(server.runs.iterdir()))
    launch.get_by_role("textbox", name="rounds").fill("-9")
    launch.get_by_role("button", name="Launch", exact=True).click()
    bad(launch)
    checked(launch)
    launch.wait_for_timeout(500)
    assert "/launch" in launch.url
    assert len(list(server.runs.iterdir())) == before


def test_text_typed_while_the_form_is_answered_stays_and_so_does_the_field(launch):
    launch.evaluate(FILL_AT_ONCE, {"title": "From the form"})
    launch.wait_for_timeout(350)
    text(launch).click()
    launch.keyboard.press("Control+End")
    launch.keyboard.type("# typed by hand, letter for letter", delay=20)
    checked(launch)
    written = text(launch).input_value()
    assert 'title = "From the form"' in written
    assert "# typed by hand, letter for letter" in written


def test_verdict_button_and_bad_field_are_in_sight_with_every_section_open(launch):
    launch.evaluate("document.querySelectorAll('details.part').forEach((d) => { d.open = true; })")
    horizon = launch.get_by_role("textbox", name="horizon")
    horizon.fill("-3")
    bad(launch)
    horizon.scroll_into_view_if_needed()
    shoot(launch, "launch-bad-field")
    for part in (launch.get_by_text("1 problem to fix"),
                 launch.get_by_role("button", name="Launch", exact=True)):  # fmt: skip
        box = part.bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 900
    assert horizon.get_attribute("aria-invalid") == "true"
    assert launch.locator(".field.wrong .fault").inner_text().startswith("[sampling] horizon = -3")
    launch.evaluate("scrollTo(0, 0)")
    launch.locator(".verdict li button").click()
    assert 0 <= horizon.bounding_box()["y"] <= 900


def test_a_reload_keeps_edits_of_a_preset_and_another_preset_replaces_them(launch, server):
    launch.get_by_role("textbox", name="title").fill("My draft")
    checked(launch)
    launch.reload()
    good(launch)
    assert "My draft" in text(launch).input_value()
    opened(launch, server, "/launch?preset=other")
    assert "My draft" not in text(launch).input_value()


def test_a_reload_right_after_the_last_letter_loses_nothing(launch):
    launch.evaluate(FILL_AT_ONCE, {"title": "At once", "schedule.rounds": "8"})
    launch.reload()
    good(launch)
    checked(launch)
    written = text(launch).input_value()
    assert 'title = "At once"' in written
    assert "rounds = 8" in written
    text(launch).click()
    launch.keyboard.press("Control+End")
    launch.keyboard.insert_text("# the last letters")
    launch.reload()
    good(launch)
    assert text(launch).input_value().endswith("# the last letters")


def test_a_reload_keeps_the_lines_of_a_grid_and_plans_it_again(launch, server):
    launch.get_by_text("Several runs at once").click()
    launch.get_by_role("textbox", name="Settings to vary").fill("seed=7|8")
    launch.reload()
    launch.get_by_role("button", name="Launch 2 runs").wait_for(timeout=PATIENCE)
    lines = launch.get_by_role("textbox", name="Settings to vary")
    assert lines.input_value() == "seed=7|8"
    opened(launch, server, "/launch?preset=other")
    launch.get_by_text("Several runs at once").click()
    assert lines.input_value() == ""


def test_edits_that_were_left_behind_do_not_come_into_another_preset(launch, server):
    launch.evaluate(FILL_AT_ONCE, {"title": "Left behind"})
    opened(launch, server, "/launch?preset=other")
    assert "Left behind" not in text(launch).input_value()


def back(page: Any, to: str) -> None:
    page.get_by_role("button", name=f"Back to {to}", exact=True).click()
    page.wait_for_timeout(100)
    checked(page)


def test_a_preset_that_replaced_edits_can_be_undone(launch):
    launch.get_by_role("textbox", name="title").fill("My draft")
    checked(launch)
    launch.get_by_label("Preset").select_option("other")
    back(launch, "my text")
    assert "My draft" in text(launch).input_value()
    back(launch, "the preset")
    assert "# other" in text(launch).input_value()


def test_the_button_that_discards_edits_says_where_it_leads(launch):
    undo, pristine = launch.locator("button.undo"), text(launch).input_value()
    assert undo.is_hidden()
    text(launch).fill('title = "Mine"\n')
    checked(launch)
    launch.get_by_role("textbox", name="rounds").fill("9")
    checked(launch)
    mine = text(launch).input_value()
    back(launch, "the preset")
    assert text(launch).input_value() == pristine
    back(launch, "my text")
    assert text(launch).input_value() == mine
    back(launch, "the preset")
    launch.get_by_role("textbox", name="rounds").fill("8")
    checked(launch)
    launch.reload()
    good(launch)
    back(launch, "the preset")
    assert text(launch).input_value() == pristine
    back(launch, "my text")
    assert "rounds = 8" in text(launch).input_value()


def test_a_text_edited_by_hand_is_not_lost_to_two_presets_in_a_row(launch):
    launch.get_by_role("textbox", name="title").fill("My draft")
    checked(launch)
    for name in ("other", "third"):
        launch.get_by_label("Preset").select_option(name)
        launch.wait_for_function(
            "name => document.querySelector('.code textarea').value.includes(`# ${name}`)",
            arg=name, timeout=PATIENCE,
        )  # fmt: skip
    launch.reload()
    good(launch)
    back(launch, "my text")
    assert "My draft" in text(launch).input_value()
    assert launch.get_by_label("Preset").input_value() == "quickstart"
    assert "preset=quickstart" in launch.url
    back(launch, "the preset")
    assert "# third" in text(launch).input_value()


def test_a_text_edited_by_hand_that_a_link_replaced_can_be_brought_back(launch, server):
    launch.get_by_role("textbox", name="title").fill("My draft")
    checked(launch)
    launch.evaluate(FILL_AT_ONCE, {"notes": "the last letters"})
    opened(launch, server, "/launch?preset=other")
    assert "My draft" not in text(launch).input_value()
    back(launch, "my text")
    written = text(launch).input_value()
    assert "My draft" in written
    assert "the last letters" in written


def test_there_is_nothing_to_undo_on_a_page_that_replaced_nothing(launch, server):
    opened(launch, server, "/launch?preset=other")
    assert launch.locator("button.undo").is_hidden()


def chosen(page: Any, name: str, content: bytes) -> None:
    page.locator("input[type=file]").set_input_files(
        {"name": name, "mimeType": "text/plain", "buffer": content}
    )


def test_a_file_of_one_line_is_opened_and_no_preset_is_named_any_more(launch):
    chosen(launch, "one.toml", b'title = "One line"')
    launch.get_by_role("button", name="Back to the preset").wait_for(timeout=PATIENCE)
    assert text(launch).input_value() == 'title = "One line"'
    assert launch.get_by_label("Preset").input_value() == ""
    assert "preset" not in launch.url


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"#" * 300_000, "has 300,000 bytes"),
        (b"#" * 900_000, "has 900,000 bytes"),
        (b"\xff\xfe\x00PNG", "is no UTF-8 text"),
        (b"title = ]", "not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_settings_is_refused_in_a_sentence(launch, content, sentence):
    before = text(launch).input_value()
    chosen(launch, "odd.toml", content)
    launch.get_by_role("alert").filter(has_text=sentence).wait_for(timeout=PATIENCE)
    assert text(launch).input_value() == before


@pytest.mark.parametrize(
    ("query", "sentence"),
    [("from=nope", "no run 'nope'"), ("preset=nope", "no preset 'nope'")],
)
def test_a_link_to_what_is_not_there_says_so(page, server, query, sentence):
    opened(page, server, f"/launch?{query}")
    page.get_by_role("alert").filter(has_text=sentence).wait_for(timeout=PATIENCE)
    assert "rounds = 2" in text(page).input_value()


def test_changes_of_a_link_that_cannot_be_made_are_told_beside_the_runs_own_text(page, server):
    folder = server.runs / "20261122-140000-quik"
    folder.mkdir(exist_ok=True)
    Path(folder / "spec.toml").write_text('title = "Earlier"\n')
    (folder / "status.json").write_text('{"state": "finished"}')
    (folder / "launch.json").write_text('{"created": 1.0}')
    opened(page, server, f"/launch?from={folder.name}&with=abc")
    page.get_by_role("alert").filter(has_text="'abc' is not of the form").wait_for(timeout=PATIENCE)
    assert 'title = "Earlier"' in text(page).input_value()
