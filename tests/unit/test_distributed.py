"""Who does what among several processes."""

from hypothesis import given
from hypothesis import strategies as st

from acft.distributed import Ranks


@given(n=st.integers(0, 20), size=st.integers(1, 9))
def test_every_item_is_in_one_share(n, size):
    shares = [Ranks(rank, size).share(range(n)) for rank in range(size)]
    assert sorted(item for share in shares for item in share) == list(range(n))


@given(n=st.integers(0, 20), size=st.integers(1, 9))
def test_even_shares_are_as_long_and_count_every_item_once(n, size):
    shares = [Ranks(rank, size).share_evenly(range(n)) for rank in range(size)]
    assert len({len(share) for share in shares}) == 1
    counted = [item for share in shares for item, counts in share if counts]
    assert sorted(counted) == list(range(n))


@given(n=st.integers(1, 20), size=st.integers(1, 9))
def test_at_most_one_pass_of_each_process_does_not_count(n, size):
    for rank in range(size):
        idle = [item for item, counts in Ranks(rank, size).share_evenly(range(n)) if not counts]
        assert idle in ([], [n - 1])
