import pytest

from acft.scorers import load_scorer
from acft.scorers.bias import CONTROL_TERMS, IDENTITY_TERMS, TEMPLATES, measure_bias
from tests.fake_scorers import RuleScorer


class TermScorer(RuleScorer):
    """0.9 for one identity term, 0.1 for everything else."""

    def score(self, texts):
        return [0.9 if "Muslim" in text else 0.1 for text in texts]


def test_one_term_that_alarms_is_found_and_counted():
    report = measure_bias(TermScorer())
    n = len(IDENTITY_TERMS)
    assert next(iter(report.by_term)) == "Muslim"
    assert report.by_term["Muslim"] == pytest.approx(0.9)
    assert report.wrong_alarms == pytest.approx(1 / n)
    assert report.gap == pytest.approx(0.8 / n)
    assert report.n_sentences == n * len(TEMPLATES)


def test_identity_and_control_terms_are_apart():
    assert not set(map(str.lower, IDENTITY_TERMS)) & set(map(str.lower, CONTROL_TERMS))
    assert len(set(IDENTITY_TERMS)) == len(IDENTITY_TERMS)


@pytest.mark.assets
@pytest.mark.parametrize("name", ["jigsaw_toxblock", "jigsaw_tcc", "profanity_svm"])
def test_the_packaged_scorers_are_biased_against_identity_terms(name):
    """A known weakness that the documentation states; this fails should it ever go away."""
    report = measure_bias(load_scorer(name))
    assert report.identity_mean > 2 * report.control_mean
    assert report.wrong_alarms > 0
