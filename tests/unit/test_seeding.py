"""Seeds depend on who asks, and on nothing else."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from acft.seeding import derive_seed, derive_short_seed, hash_fraction


@given(st.integers(), st.lists(st.text() | st.integers()))
def test_seed_fits_every_generator(seed, names):
    assert 0 <= derive_seed(seed, *names) < 2**63
    assert 0 <= derive_short_seed(seed, *names) < 2**32


def test_each_consumer_has_a_seed_of_its_own():
    askers = [(0, "sample", 1), (0, "sample", 2), (1, "sample", 1), (0, "fit", 1), (0, "sample")]
    assert len({derive_seed(*asker) for asker in askers}) == len(askers)


def test_names_are_not_run_together():
    assert derive_seed(0, "ab", "c") != derive_seed(0, "a", "bc")


def test_seed_and_fraction_are_the_same_in_every_process():
    code = "from acft.seeding import *; print(derive_seed(7, 'x', 1), hash_fraction('text'))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == [str(derive_seed(7, "x", 1)), str(hash_fraction("text"))]


def test_fractions_spread_evenly():
    values = [hash_fraction(f"prompt {index}") for index in range(4000)]
    assert 0 <= min(values) <= max(values) < 1
    assert abs(sum(value < 0.6 for value in values) / 4000 - 0.6) < 0.03
