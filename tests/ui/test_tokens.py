"""Tokens: what a refusal leaves, what can be exchanged, where links lead, what files hold."""

from typing import Any

import pytest

from acft.errors import DataError
from acft.ui.pages import tokens as tokens_page
from acft.ui.parts import live_tokens
from acft.ui.web.dom import text_of
from tests.ui.conftest import QUICK, visit
from tests.ui.test_live import run_of


def refused(run: Any) -> Any:
    raise DataError("the text is too long")


@pytest.mark.parametrize("asked", ["stored", "typed"])
def test_a_refused_question_leaves_the_heading_of_what_is_shown(bench, asked):
    seen, run = visit(QUICK, may_change=True, live_version="2"), run_of(bench)
    last, heading, control = {}, "The chosen text", "Compute the values now"
    if asked == "typed":
        typed = live_tokens.of_text(run, "a", "b")
        _, last = live_tokens.scored(bench, seen, run, typed)
        heading, control = "A text computed now", "Values computed on demand under"
    first, (about, *others) = tokens_page.computed(bench, seen, last, refused)
    assert text_of(about).startswith(f"the text is too long{heading}")
    assert control in text_of(about)
    assert others == first[1:]


def test_a_refused_version_is_not_said_to_have_given_the_values_that_stay(bench):
    seen, run = visit(QUICK, may_change=True, live_version="2"), run_of(bench)
    _, last = live_tokens.scored(bench, seen, run, live_tokens.of_text(run, "a", "b"))
    assert last["weights"]["tuned"]["version"] == 1
    *_, (about, *_) = tokens_page.computed(bench, seen, last, refused)
    assert "under the oracle of version 1" in text_of(about)
