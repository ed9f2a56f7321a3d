"""Prints what an oracle's job asks the constraint in this process, is billed for and learns.

Started in several processes: FOLDER, that of a toy run and of a scorer.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from acft.distributed import leave, ranks
from acft.training.oracle_job import OracleRound, build_oracle, oracle_job
from acft.training.outputs import TrainContext
from acft.training.world import load_world
from tests.toy_runs import drained, toy_run


def main(folder: str) -> None:
    """Print one line."""
    sys.stdout.write(f"{json.dumps({'rank': ranks().rank, **judged(Path(folder))})}\n")
    leave()


def judged(folder: Path) -> dict[str, Any]:
    """Of two rounds, the second of which reads the responses of the first again."""
    scored = {"kind": "scorer", "scorer": f"model:{folder / 'scorer'}#rude"}
    run = toy_run(
        folder, "oracle.rollouts_per_round=400", "oracle.replay_rounds=1", constraint=[scored]
    )
    context = TrainContext(run)
    world = drained(load_world(context))
    oracle = build_oracle(world)
    context.texts.take()
    kind = type(world.constraint)
    score, asked = kind.score, []

    def counted(self: Any, prompts: Sequence[str], responses: Sequence[str]) -> Any:
        asked.extend(responses)
        return score(self, prompts, responses)

    with patch.object(kind, "score", counted):
        first: OracleRound = drained(oracle_job(world, oracle, world.base, 1, []))
        second: OracleRound = drained(oracle_job(world, first.guide.oracle, world.base, 2, [first]))
    weights = sum(float(value.sum()) for value in second.guide.oracle.state_dict().values())
    return {
        "asked": len(asked),
        "billed": sum(context.texts.take().values()),
        "learned": [*first.satisfaction, *second.satisfaction, weights],
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
