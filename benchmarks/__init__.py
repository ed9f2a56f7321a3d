"""Measurements of speed and memory, one command each."""

import acft  # noqa: F401 - says how threads wait, before any of these loads torch
