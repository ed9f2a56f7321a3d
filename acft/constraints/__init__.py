"""Constraints on a response, graded in [0, 1]; one file registers each kind."""

from acft.constraints.base import (
    CONSTRAINTS,
    Constraint,
    ParsedConstraint,
    build_constraint,
    parse_constraints,
)

__all__ = [
    "CONSTRAINTS",
    "Constraint",
    "ParsedConstraint",
    "build_constraint",
    "parse_constraints",
]
