"""A run's state as a word with a shape, never colour alone."""

from acft.ui.reading.reader import Run
from acft.ui.web.dom import Node, el


def state_chip(run: Run) -> Node:
    """State with its reason."""
    kind = "stalled" if run.state.is_stalled else run.state.state
    return el(f"span.state.{kind}", run.state.label, title=run.state.message or None)
