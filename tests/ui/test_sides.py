"""Which sides Compare sets against each other, and what it says where they share nothing."""

from dataclasses import replace

from acft.runs.directory import write_labels
from acft.schema import Labels, RunPaths
from acft.ui.pages import compare
from acft.ui.parts import side_menus
from acft.ui.reading.reader import Reader
from acft.ui.web.dom import text_of
from tests.ui import synthetic
from tests.ui.conftest import CONTROL, FAILED, LIVE, LOST, QUICK, make_bench, visit
from tests.ui.test_filters import labelled

MENUS = ("Run", "Other run", "Left", "Right")


def change_answers(monkeypatch, of, change):
    """Makes the answers of one run what ``change`` makes of them."""
    plain = Reader.answers

    def answers(reader, run, purpose="test"):
        found = plain(reader, run, purpose)
        return change(found) if run.run_id == of else found

    monkeypatch.setattr(Reader, "answers", answers)


def of_other_prompts(answers):
    return [replace(answer, prompt_id=f"own-{answer.prompt_id}") for answer in answers]


def test_two_runs_without_a_shared_prompt_keep_their_menus_and_say_so(bench, monkeypatch):
    change_answers(monkeypatch, CONTROL, of_other_prompts)
    asked = visit(QUICK, other=CONTROL, left="base.0")
    shown = compare.summary(bench, asked)
    assert "These two runs share no test prompts." in text_of(shown)
    assert "has not answered" not in text_of(shown)
    for name in MENUS:  # another run is another page, all else is drawn where it is
        how = "data-nav" if name in ("Run", "Other run") else "data-query"
        assert labelled(shown, name)[how]
    assert f"'compare?run={QUICK}'" in str(shown)
    assert compare.listing(bench, asked) == ""


def test_a_run_that_has_not_answered_keeps_the_menus_of_the_runs(bench, monkeypatch):
    change_answers(monkeypatch, FAILED, lambda _: [])
    shown = compare.summary(bench, visit(QUICK, other=FAILED))
    title = bench.reader.run(FAILED).title
    assert f"{title} has not answered test prompts yet." in text_of(shown)
    assert labelled(shown, "Run")
    assert labelled(shown, "Other run")


def in_two_ways(answers):
    return [*answers, *(replace(a, round=a.round + 9, text=f"again {a.text}") for a in answers)]


def test_of_two_drawings_of_the_same_prompts_one_is_shown_and_the_other_offered(bench, monkeypatch):
    plain = compare.compared(bench, visit(QUICK))
    change_answers(monkeypatch, QUICK, in_two_ways)
    first, second = (compare.compared(bench, visit(QUICK, drawing=d)) for d in ("", "1"))
    assert plain is not None
    assert first is not None
    assert second is not None
    assert first.pairs == plain.pairs
    assert len(second.pairs) == len(plain.pairs)
    assert all(p.left.text.startswith("again ") for p in second.pairs)
    menu = labelled(compare.summary(bench, visit(QUICK, drawing="1")), "Drawing")
    assert menu["data-query"] == "drawing"
    told = text_of(compare.summary(bench, visit(QUICK, other=CONTROL)))
    assert "was drawn in 2 ways, the right in 1" in told


def test_one_drawing_offers_no_menu_of_drawings(bench):
    assert "Drawing" not in text_of(compare.summary(bench, visit(QUICK)))


def test_results_of_two_runs_are_compared_and_base_with_the_result_within_one(bench):
    def sides(**query):
        found = compare.compared(bench, visit(QUICK, **query))
        assert found is not None
        return found.left.key, found.right.key

    assert sides() == sides(other=QUICK) == ("base.0", "policy.3")
    assert sides(other=CONTROL) == ("policy.3", "policy.3")
    assert sides(other=CONTROL, left="base.0") == ("base.0", "policy.3")


def test_one_policy_against_itself_leads_to_runs_that_answered_the_same(tmp_path):
    shapes = {
        QUICK: synthetic.Shape(), CONTROL: synthetic.Shape(), LOST: synthetic.Shape(),
        FAILED: synthetic.Shape(seed=7), LIVE: synthetic.Shape(state="running"),
    }  # fmt: skip
    for run_id, shape in shapes.items():
        synthetic.write_run(tmp_path, run_id, shape)
    write_labels(RunPaths(tmp_path / LOST), Labels(archived=True))
    bench = make_bench(tmp_path, tmp_path)
    same = visit(QUICK, left="policy.3", right="policy.3")
    shown = compare.summary(bench, same)
    assert "Both sides are tuned, version 3 of the same run" in text_of(shown)
    assert f"'compare?run={QUICK}&other={CONTROL}'" in str(shown)
    # Archived, of another seed, and not through with its test prompts.
    assert not any(f"other={run_id}" in str(shown) for run_id in (LOST, FAILED, LIVE))
    plain = compare.summary(bench, visit(QUICK))
    assert "other=" not in str(plain)
    bench.close()


def test_no_more_runs_are_named_than_fit_a_notice(tmp_path):
    for n in range(side_menus.MOST_LINKS + 2):
        synthetic.write_run(tmp_path, f"20261122-14000{n}-same")
    bench = make_bench(tmp_path, tmp_path)
    run_id = "20261122-140000-same"
    shown = compare.summary(bench, visit(run_id, left="base.0", right="base.0"))
    bench.close()
    assert str(shown).count("&other=") == side_menus.MOST_LINKS
