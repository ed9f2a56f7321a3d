"""Laws of every registered scorer and of one from a local folder."""

import math

import pytest

from acft.errors import ModelError
from acft.scorers import SCORERS, check_scorer_name, load_scorer, scorer_problem
from acft.scorers.detoxify import BASE_MODELS, ENVIRONMENT
from tests.fake_scorers import save_classifier, save_detoxify

LOCAL = "model:FOLDER"
PACKAGED = [name for name, entry in SCORERS.items() if entry.is_packaged]
LOADABLE = [
    *(pytest.param(name, id=name, marks=pytest.mark.assets) for name in PACKAGED),
    *(name for name, entry in SCORERS.items() if not entry.is_packaged),
    LOCAL,
]
TEXTS = [
    "Have a nice day :)", "you silly fool", "", "   ", "Ünïcödé 漢字 🙂", "line\nbreak\ttab",
    "The committee meets on Monday. " * 80, "WHAT A STUPID IDEA!!!", "a", "\x00\ufeff",
    "You Silly, Fool!",
]  # fmt: skip


@pytest.fixture(scope="module")
def scorer_of(tmp_path_factory):
    """Loads each scorer once; folders with tiny random models stand in for detoxify's."""
    root = tmp_path_factory.mktemp("models")
    for variant in BASE_MODELS:
        save_detoxify(root / variant)
    local = f"model:{save_classifier(root / 'local', ['fine', 'toxic'])}"
    loaded = {}

    def load(name):
        if name not in loaded:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(ENVIRONMENT, str(root))
                loaded[name] = load_scorer(local if name == LOCAL else name)
        return loaded[name]

    return load


@pytest.mark.parametrize("name", LOADABLE)
def test_scores_are_finite_numbers_between_0_and_1(name, scorer_of):
    scores = scorer_of(name).score(TEXTS)
    assert len(scores) == len(TEXTS)
    assert all(isinstance(s, float) and math.isfinite(s) and 0 <= s <= 1 for s in scores)


@pytest.mark.parametrize("name", LOADABLE)
def test_no_text_gives_no_score(name, scorer_of):
    assert scorer_of(name).score([]) == []


@pytest.mark.parametrize("name", LOADABLE)
def test_the_same_texts_give_the_same_scores_again(name, scorer_of):
    assert scorer_of(name).score(TEXTS) == scorer_of(name).score(TEXTS)


@pytest.mark.parametrize("name", LOADABLE)
def test_a_score_follows_its_text_when_the_order_changes(name, scorer_of):
    forward = scorer_of(name).score(TEXTS)
    assert scorer_of(name).score(TEXTS[::-1]) == pytest.approx(forward[::-1], abs=1e-6)


@pytest.mark.parametrize("name", LOADABLE)
def test_a_score_does_not_depend_on_the_other_texts(name, scorer_of):
    others = [TEXTS[6][:end] for end in range(0, len(TEXTS[6]), 23)]
    together = scorer_of(name).score(TEXTS * 7 + others)[: len(TEXTS)]
    alone = [scorer_of(name).score([text])[0] for text in TEXTS]
    # packaged scorers agree to the last bit, so a resumed run repeats its numbers
    assert together == (alone if name in PACKAGED else pytest.approx(alone, abs=1e-6))


@pytest.mark.parametrize("name", LOADABLE)
def test_texts_are_told_apart(name, scorer_of):
    assert len(set(scorer_of(name).score(TEXTS))) > 3


@pytest.mark.parametrize("name", LOADABLE)
def test_it_carries_name_version_and_the_hash_of_its_weights(name, scorer_of):
    scorer = scorer_of(name)
    assert scorer.name.startswith("model:") if name == LOCAL else scorer.name == name
    assert scorer.version
    assert len(bytes.fromhex(scorer.sha256)) == 32


@pytest.mark.parametrize("name", SCORERS.names())
def test_it_says_what_it_is_where_it_comes_from_and_under_which_licence(name):
    entry = SCORERS.get(name)
    assert entry.summary.endswith(".")
    assert entry.licence
    assert entry.where


@pytest.mark.parametrize("name", SCORERS.names())
def test_what_is_missing_is_an_error_that_says_what_to_do(name, tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path))
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    check_scorer_name(name)
    problem = scorer_problem(name)
    if name == "profanity_svm":  # an ordinary requirement, always there
        assert problem == ""
        return
    assert "make assets" in problem or ENVIRONMENT in problem
    with pytest.raises(ModelError, match=f"{name}.*cannot be loaded"):
        load_scorer(name)
