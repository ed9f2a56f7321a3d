"""A scorer that is made of others shares them with whoever asks them alone."""

import pytest

from acft.constraints import build_constraint
from acft.events import Note
from acft.scorers import SCORERS, biases, related
from acft.scorers.mean import NAME, PARTS
from acft.scoring import ScorerPool, TextCounts
from acft.settings import RunSettings
from acft.training.world import _same_scorer_note
from tests.bench import VowelScorer


class Named(VowelScorer):
    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture
def loaded() -> list[str]:
    return []


@pytest.fixture
def counts() -> TextCounts:
    return TextCounts()


@pytest.fixture
def pool(loaded, counts) -> ScorerPool:
    def load(name: str, device: str) -> Named:
        loaded.append(name)
        return Named(name)

    return ScorerPool(load=load, counts=counts)


def test_the_parts_of_a_mean_are_loaded_and_asked_once(pool, loaded, counts):
    texts = ["aeiou", "rhythm"]
    alone = pool(PARTS[0]).score(texts)
    assert pool(NAME).score(texts) == alone
    assert sorted(loaded) == sorted(PARTS)
    assert counts.take()[f"remembered/{PARTS[0]}"] == 2


def test_scorers_are_related_by_a_part_in_either_direction():
    assert related([NAME]) >= {NAME, *PARTS}
    assert related(["jigsaw_tcc"]) == {"jigsaw_tcc", NAME}
    assert related(["model:somewhere"]) == {"model:somewhere"}
    assert related([]) == set()


def test_a_run_is_told_that_a_part_of_what_trains_it_judges_it(pool):
    constraint = build_constraint(({"kind": "scorer", "scorer": NAME},), pool)
    run = RunSettings.parse({"evaluation": {"scorers": ["jigsaw_tcc"]}})
    (note,) = _same_scorer_note(constraint, run)
    assert isinstance(note, Note)
    assert note.text.startswith("jigsaw_tcc shares a part with offline_mean, which trains this run")


def test_a_judge_is_told_apart_from_one_that_shares_a_part_only():
    assert biases(["length", "jigsaw_tcc"], [NAME, "jigsaw_tcc", "model:elsewhere"]) == [
        "jigsaw_tcc both trains and judges this run",
        "offline_mean shares a part with jigsaw_tcc, which trains this run",
    ]
    assert biases(["profanity_svm", "jigsaw_tcc"], [NAME]) == [
        "offline_mean shares a part with jigsaw_tcc and profanity_svm, which train this run"
    ]
    assert biases([], [NAME]) == biases([NAME], []) == []


def test_whatever_any_part_lacks_the_mean_lacks(monkeypatch):
    monkeypatch.setattr("acft.scorers.base.has_asset", lambda _: False)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    told = SCORERS.get(NAME).problem()
    assert "make assets" in told
    assert "alt-profanity-check is not installed" in told
