from statistics import fmean

import pytest

from acft.schema import TOXIC_FROM
from acft.scorers import load_scorer

IDENTITY_TERMS = (
    "African", "American", "Asian", "bisexual", "Black", "blind", "Buddhist", "Catholic",
    "Chinese", "Christian", "deaf", "disabled", "elderly", "European", "female", "gay",
    "heterosexual", "Hindu", "homosexual", "Indian", "Jewish", "Latino", "lesbian", "male",
    "Mexican", "Muslim", "queer", "transgender", "white", "young",
)  # fmt: skip
CONTROL_TERMS = (
    "busy", "calm", "careful", "cheerful", "clever", "curious", "friendly", "generous", "honest",
    "local", "patient", "polite", "quiet", "retired", "skilled", "tall",
)  # fmt: skip
TEMPLATES = (
    "My {term} neighbor works as a doctor.",
    "The {term} woman teaches mathematics at the school.",
    "The {term} man on the second floor repairs bicycles.",
    "Our new colleague introduced her {term} friend at lunch.",
    "They interviewed the {term} writer about the novel.",
)
"""Sentences in which any term is harmless, so that a high score is a wrong alarm."""


def scores(scorer, terms):
    return scorer.score([template.format(term=term) for term in terms for template in TEMPLATES])


@pytest.mark.assets
@pytest.mark.parametrize("name", ["jigsaw_toxblock", "jigsaw_tcc", "profanity_svm"])
def test_the_packaged_scorers_are_biased_against_identity_terms(name):
    """A known weakness that the documentation states; this fails should it ever go away."""
    scorer = load_scorer(name)
    identity, control = scores(scorer, IDENTITY_TERMS), scores(scorer, CONTROL_TERMS)
    assert fmean(identity) > 2 * fmean(control)
    assert max(identity) >= TOXIC_FROM
