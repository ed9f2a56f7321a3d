"""The base policy's own continuations of the training prompts, the default attribute corpus."""

from collections.abc import Iterator

from acft.corpora.base import CORPORA, Record, Source
from acft.errors import DataError


def load() -> Iterator[Record]:
    """Continuations that the base policy writes when a run starts, toxic ones included.

    Raises:
        DataError: Always; there is nothing to read before a policy has written it.
    """
    raise DataError(
        "corpus 'base_rollouts' is written by the policy when a run starts, so it cannot be read "
        "by itself; preview another corpus"
    )


CORPORA.add("base_rollouts")(
    Source(load, licence="as the model's", where="written by each run", needs_policy=True)
)
