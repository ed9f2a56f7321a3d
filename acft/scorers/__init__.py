"""Toxicity scorers: text in, a number in [0, 1] out; one file registers each."""

from acft.scorers.base import (
    SCORERS,
    Scorer,
    ScorerEntry,
    biases,
    check_scorer_name,
    load_scorer,
    related,
    scorer_problem,
)

__all__ = [
    "SCORERS",
    "Scorer",
    "ScorerEntry",
    "biases",
    "check_scorer_name",
    "load_scorer",
    "related",
    "scorer_problem",
]
