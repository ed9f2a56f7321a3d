"""Sealed shards: checked against the hash in their event, then loaded in bulk."""

# ruff: noqa: S608 - only names from constants and quoted literals are formatted into SQL

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from acft.atomic import open_own
from acft.schema import TABLES

if TYPE_CHECKING:
    import duckdb

READ_FROM_SHARD = {"guidance": {"alternatives"}}
"""Columns that stay in the shards; see the note in the first migration."""
CHECKING_THREADS = 2

SEQUENCES = """
INSERT INTO sequences
SELECT $run_id, $run_key, $seq, sequence_id, source, round, step, policy_version, oracle_version,
    count(*), count(*) FILTER (in_loss),
    coalesce(sum(kl_guided_policy::DOUBLE) FILTER (in_loss), 0),
    max(kl_guided_policy) FILTER (in_loss), {kl_logged}
FROM read_parquet($path)
GROUP BY ALL ORDER BY step, sequence_id
"""


@dataclass(frozen=True)
class Shard:
    """A Parquet file that an event named."""

    seq: int
    table: str
    path: Path
    rows: int
    sha256: str


def problems(shards: Sequence[Shard]) -> list[str]:
    """For each shard why it must not be loaded, or an empty string."""
    with ThreadPoolExecutor(CHECKING_THREADS) as pool:
        return list(pool.map(problem, shards))


def problem(shard: Shard) -> str:
    """Why a shard must not be loaded, or an empty string."""
    try:
        with open_own(shard.path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != shard.sha256:
                return f"content has hash {digest[:12]}, its event says {shard.sha256[:12]}"
            metadata = pq.read_metadata(file)
    except (OSError, pa.ArrowInvalid) as error:
        return f"cannot be read: {error}"
    if metadata.num_rows != shard.rows:
        return f"has {metadata.num_rows} rows, its event says {shard.rows}"
    expected, found = TABLES[shard.table], metadata.schema.to_arrow_schema()
    for field in found:
        if field.name in expected.names and field.type != expected.field(field.name).type:
            return f"column {field.name!r} has type {field.type}"
    return ""


def load(
    connection: "duckdb.DuckDBPyConnection", run_id: str, run_key: int, shards: Sequence[Shard]
) -> None:
    """Inserts all rows of checked shards.

    Columns that a newer version added are ignored; those an older one lacks become NULL.
    """
    for shard in shards:
        columns = [
            f'"{name}"'
            for name in pq.read_schema(shard.path).names
            if name in TABLES[shard.table].names
            and name not in READ_FROM_SHARD.get(shard.table, set())
        ]
        values = {"run_id": run_id, "run_key": run_key, "seq": shard.seq, "path": str(shard.path)}
        connection.execute(
            f"INSERT INTO {shard.table} BY NAME SELECT $run_id AS run_id, $run_key AS run_key, "
            f"$seq AS shard_seq, {', '.join(columns)} FROM read_parquet($path)",
            values,
        )
        if shard.table == "guidance":
            logged = "max(kl_logged)" if '"kl_logged"' in columns else "NULL"
            connection.execute(SEQUENCES.format(kl_logged=logged), values)
