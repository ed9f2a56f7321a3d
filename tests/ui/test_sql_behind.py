"""Tables and charts made by a query show it, and it gives the same when it is asked again."""

from typing import Any

from acft.ui.pages import runs as runs_page
from acft.ui.pages import tradeoff
from acft.ui.parts import run_details
from acft.ui.reading import checkpoints
from acft.ui.web.dom import text_of
from tests.ui.conftest import CONTROL, QUICK, visit


def queries(node: Any) -> list[str]:
    """What the buttons beside a node's queries copy."""
    if not isinstance(node, list):
        return []
    own = node[1] if len(node) > 1 and isinstance(node[1], dict) else {}
    found = [own["data-text"]] if "Copy query" in node and "data-text" in own else []
    return found + [query for child in node for query in queries(child)]


def test_the_trade_off_shows_the_query_behind_its_points(bench):
    shown = tradeoff.drawn(bench, visit())
    (query,) = queries(tradeoff.numbers(shown))
    assert shown.points
    assert len(bench.store.rows(query)) == len(shown.points)
    assert "SQL behind this chart" in text_of(tradeoff.numbers(shown))


def test_points_that_come_from_the_files_of_runs_show_no_query(bench):
    measure = checkpoints.measures(bench.reader.runs())[0]
    shown = tradeoff.drawn(bench, visit(y=tradeoff._key(measure)))
    assert shown.points
    assert queries(tradeoff.numbers(shown)) == []


def test_the_audit_of_a_run_shows_its_query(bench):
    shown = run_details._audit(bench, bench.reader.run(QUICK))
    (query,) = queries(shown)
    checked = [what for what, *_ in bench.store.rows(query)]
    assert checked
    for what in checked:
        assert what in text_of(shown)


def test_settings_that_differ_show_the_query_that_found_them(bench):
    shown = runs_page.differences(bench, visit(select=f"{QUICK},{CONTROL}"))
    (query,) = queries(shown)
    for name, *_ in bench.store.rows(query):
        assert name in text_of(shown)
    assert queries(runs_page.differences(bench, visit(select=f"{QUICK},{QUICK}"))) == []
