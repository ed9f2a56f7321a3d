"""The responses of a run with their scores, from its shards."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from acft.atomic import open_own
from acft.errors import DataError
from acft.schema import TABLES


@dataclass(frozen=True)
class Response:
    """One response to a prompt."""

    rollout_id: str
    subject: str
    """base, policy or guided."""
    version: int
    prompt_id: str
    prompt: str
    category: str
    sample: int
    text: str
    n_tokens: int
    logprob: float
    scores: dict[str, float]
    satisfaction: float | None = None
    """How well the run's constraint is satisfied, 0 to 1."""
    round: int = 0
    """Round of its row. One that differs among responses of one policy tells another drawing."""

    @property
    def toxicity(self) -> float | None:
        """The highest score any scorer gave."""
        return max(self.scores.values(), default=None)


@lru_cache(maxsize=4)
def answers_of(folder: Path, names: tuple[tuple[str, str], ...], purpose: str) -> list[Response]:
    """Every response given for a purpose, with its scores.

    Args:
        folder: Where the shards lie.
        names: Table and name of each sealed shard of responses or scores.
        purpose: Of the responses.

    Raises:
        DataError: A shard cannot be read.
    """
    rows = _rows(folder, names, "rollouts", ("purpose", "=", purpose))
    wanted = {row["rollout_id"] for row in rows}
    scores: dict[str, dict[str, float]] = {}
    for row in _rows(folder, names, "scores", ("rollout_id", "in", wanted)) if wanted else ():
        scores.setdefault(row["rollout_id"], {})[row["scorer"]] = row["value"]
    return [
        Response(
            row["rollout_id"], row["subject"], row["policy_version"], row["prompt_id"],
            row["prompt_text"], row["prompt_category"] or "", row["sample"], row["response_text"],
            row["n_tokens"], row["logprob"], scores.get(row["rollout_id"], {}),
            row["satisfaction"], row["round"],
        )
        for row in rows
    ]  # fmt: skip


def _rows(
    folder: Path, names: tuple[tuple[str, str], ...], table: str, condition: tuple[str, str, Any]
) -> list[dict[str, Any]]:
    """Rows of a table that meet a condition, from shards whose names have no folder part."""
    found: list[dict[str, Any]] = []
    for kind, name in names:
        if kind == table and name == Path(name).name:
            try:
                with open_own(folder / name) as file:
                    part = pq.read_table(file, schema=TABLES[table], filters=[condition])
            except (OSError, pa.ArrowException) as error:
                raise DataError(
                    f"shard {name} of run {folder.parent.name} cannot be read "
                    f"({type(error).__name__}), so its texts are not shown; a run that is resumed "
                    "writes it again, else restore it from a copy"
                ) from None
            found.extend(part.to_pylist())
    return found
