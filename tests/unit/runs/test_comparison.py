import json

import pytest

from acft.runs import launcher
from acft.runs.comparison import differences
from acft.runs.directory import find_run
from acft.runs.spec import parse_spec
from acft.schema import RunPaths
from tests import fake_method
from tests.fake_runs import SPEC, create, do


@pytest.fixture(autouse=True)
def _fake():
    fake_method.register()


@pytest.fixture
def done(tmp_path):
    paths = create(tmp_path)
    assert do(paths) == 0
    return paths


def launched(runs_dir, *overrides) -> RunPaths:
    return find_run(runs_dir, launcher.launch(runs_dir, SPEC, overrides))


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
