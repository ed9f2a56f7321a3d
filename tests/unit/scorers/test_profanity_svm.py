import importlib.util

import pytest

from acft.errors import ModelError
from acft.scorers import load_scorer


def test_without_its_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="run 'pip install alt-profanity-check'"):
        load_scorer("profanity_svm")


def test_milder_words_score_lower():
    polite, rude = load_scorer("profanity_svm").score(["what a lovely day", "you stupid idiot"])
    assert polite < 0.2 < 0.8 < rude
