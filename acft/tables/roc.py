"""Curves of the detectors that an evaluation's ``detection`` suite measured."""

import numpy as np
from sklearn.metrics import roc_curve

from acft.benchmarks.detection import NAME
from acft.tables.members import POLICY, Members

LABEL = "label"
GRID = np.linspace(0, 1, 101)
"""Shares of harmless texts taken for toxic, at which curves of several runs are averaged."""

Curve = list[tuple[float, float]]
"""Share of harmless texts taken for toxic, and of toxic texts found."""


def roc_curves(members: Members) -> dict[str, dict[str, Curve]]:
    """The curve of each row, by detector; rows with several runs have the mean of theirs.

    Source: vertical averaging, Fawcett 2006.
    """
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for member in members:
        columns = member.results.measured.get(NAME, {}).get(POLICY, {})
        for detector in columns.keys() - {LABEL}:
            wrong, right, _ = roc_curve(columns[LABEL].sums, columns[detector].sums)
            curve = np.interp(GRID, wrong, right)
            found.setdefault(detector, {}).setdefault(member.variant, []).append(curve)
    return {
        detector: {
            row: list(zip(GRID.tolist(), np.mean(curves, axis=0).tolist(), strict=True))
            for row, curves in rows.items()
        }
        for detector, rows in sorted(found.items())
    }
