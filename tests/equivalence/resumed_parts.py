"""Prints how far a resumed run ends from the whole one where every layer lies in parts.

Started in several processes: FOLDER, which holds the toy model.
"""

import sys
from pathlib import Path

from acft.distributed import leave, ranks
from tests.toy_runs import largest_difference, toy_run, trained

ROUNDS = 3


def main(folder: str) -> None:
    """Print one line."""
    run = toy_run(
        Path(folder), "model.sharding=fsdp", "adapter.kind=full", "schedule.kind=parallel",
        f"schedule.rounds={ROUNDS}",
    )  # fmt: skip
    place = Path(folder) / str(ranks().rank)
    whole = trained(place / "whole", run, {"name": "acft"})
    # only the first process writes weights
    checkpoint = Path(folder) / "0" / "whole" / f"round-{ROUNDS - 1}"
    resumed = trained(place / "resumed", run, {"name": "acft"}, resume=(checkpoint, ROUNDS - 1))
    if ranks().rank == 0:
        difference = largest_difference(whole.weights(ROUNDS), resumed.weights(ROUNDS))
        sys.stdout.write(f"differs by {difference}\n")
    leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
