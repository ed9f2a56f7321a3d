"""Bytes as people read them: one way on the command line, on pages and in errors."""

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
STEP = 1024
FIRST_OF_FOUR_DIGITS = 999.5
"""Three digits are shown; what rounds to more of them is told in the next unit."""


def size(n_bytes: float | int) -> str:
    """Bytes in the unit that leaves at most three digits, such as ``1.4 GiB``."""
    value, units = float(n_bytes), list(UNITS)
    while value >= FIRST_OF_FOUR_DIGITS and len(units) > 1:
        value /= STEP
        units.pop(0)
    return f"{value:.3g} {units[0]}"
