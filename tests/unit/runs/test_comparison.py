import json

import pytest

from acft.runs.comparison import differences
from acft.runs.spec import parse_spec
from tests.fake_runs import SPEC, launched

pytestmark = pytest.mark.usefixtures("fake_method_known")


def test_only_differing_settings_are_shown_and_missing_ones_are_none(tmp_path, done):
    other = launched(tmp_path, "seed=3", "corpus.1.weight=2.0")
    found = differences(tmp_path, done.root.name, other.root.name)
    assert [(d.name, d.first, d.second) for d in found] == [
        ("corpus.1.weight", 1.0, 2.0), ("seed", 0, 3),
    ]  # fmt: skip
    assert differences(tmp_path, other.root.name, other.root.name) == []


def test_fingerprints_ignore_words_and_notice_numbers():
    fingerprint = parse_spec(SPEC).fingerprint
    assert parse_spec(SPEC, ["title='x'", "notes='y'"]).fingerprint == fingerprint
    assert parse_spec(SPEC, ["seed=1"]).fingerprint != fingerprint
    assert json.dumps(parse_spec(SPEC).values)
