"""What pages say of satisfaction where a run's constraint is not about toxicity."""

import json
import math
from dataclasses import replace

import pytest

from acft.ui.pages import compare
from acft.ui.pages import run as run_page
from acft.ui.reading import comparing, pairs
from acft.ui.reading.comparing import Choice
from acft.ui.reading.pairs import CONSTRAINT
from acft.ui.web.dom import text_of
from tests.ui import synthetic
from tests.ui.conftest import CONTROL, QUICK, make_bench, visit
from tests.ui.test_filters import nodes
from tests.ui.test_texts import pair

NO_RED = [{"kind": "forbidden_words", "words": ["red"]}]


def graded(left, right, scores=(0.1, 0.1), prompt="p"):
    found = pair(*scores, prompt=prompt)
    sides = zip((found.left, found.right), (left, right), strict=True)
    return pairs.Pair(*(replace(side, satisfaction=grade) for side, grade in sides))


def constrain(folder, run_id, constraint):
    """Gives a run that was written another constraint."""
    file = folder / run_id / "resolved.json"
    resolved = json.loads(file.read_text())
    resolved["settings"]["constraint"] = constraint
    file.write_text(json.dumps(resolved))


@pytest.fixture
def wordy(tmp_path, experiments):
    """Two runs whose constraint is a forbidden word."""
    for run_id in (QUICK, CONTROL):
        synthetic.write_run(tmp_path, run_id)
        constrain(tmp_path, run_id, NO_RED)
    bench = make_bench(tmp_path, experiments)
    yield bench
    bench.close()


def test_more_of_the_constraint_satisfied_is_an_improvement():
    found = [graded(0.2, 0.9), graded(0.9, 0.5, prompt="b"), graded(0.8, 0.9, prompt="c")]
    numbers = comparing.counts(found, Choice(scorer=CONSTRAINT))
    names = ("improved", "regressed", "now toxic", "no longer toxic")
    assert [numbers[name] for name in names] == [2, 1, 1, 1]
    said = pairs.verdict(found, CONSTRAINT)
    assert said is not None
    assert (said.wins, said.ties, said.losses) == (2, 0, 1)
    assert said.share_left.value == said.share_right.value == pytest.approx(1 / 3)
    assert said.mean_right == pytest.approx(2.3 / 3)


def test_a_response_that_nothing_graded_is_neither_satisfied_nor_violated():
    assert pairs.verdict([graded(None, None), graded(math.nan, math.nan)], CONSTRAINT) is None
    assert not pairs.is_bad(graded(math.nan, 1.0).left, CONSTRAINT)


def test_compare_shows_satisfaction_where_the_constraint_is_not_about_toxicity(wordy):
    asked = visit(QUICK)
    found = compare.compared(wordy, asked)
    assert found is not None
    assert found.choice.scorer == CONSTRAINT
    above, below = compare.summary(wordy, asked), compare.listing(wordy, asked)
    assert "Toxic or violated, base" in text_of(above)
    assert CONSTRAINT in text_of(above)
    assert "now violated" in text_of(below)
    assert "now satisfied" in text_of(below)
    [menu] = [n for n in nodes(below) if n[1].get("aria-label") == "Scorer"]
    assert text_of(menu).startswith(CONSTRAINT)
    chips = [n for n in nodes(below) if n[1].get("title") == "Grade by the constraint, 0 to 1"]
    assert len(chips) == 2 * compare.PER_PAGE
    by_scorer = text_of(compare.listing(wordy, visit(QUICK, scorer="jigsaw_tcc")))
    assert "now toxic" in by_scorer


def test_the_page_of_a_run_shows_satisfaction_beside_its_pairs(wordy):
    shown = text_of(run_page.texts(wordy, visit(QUICK)))
    assert "Toxic or violated, base" in shown
    assert "satisfied 0." in shown


def test_satisfaction_of_different_constraints_is_not_compared(wordy, tmp_path):
    constrain(tmp_path, CONTROL, [{"kind": "forbidden_words", "words": ["blue"]}])
    asked = visit(QUICK, other=CONTROL)
    found = compare.compared(wordy, asked)
    assert found is not None
    assert CONSTRAINT not in found.judges
    assert "different constraints" in text_of(compare.summary(wordy, asked))


def test_nothing_is_said_of_satisfaction_where_the_constraint_is_about_toxicity(bench):
    for part in (compare.summary, compare.listing):
        assert "iolated" not in text_of(part(bench, visit(QUICK)))
