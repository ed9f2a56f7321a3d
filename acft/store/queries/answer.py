"""Rows of a question and the SQL behind them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import pandas as pd

from acft.store.connection import Store, StoreError

MAX_ROWS = 500
"""Of one slice."""


@dataclass(frozen=True)
class Slice:
    """Which part of a long answer is wanted."""

    limit: int = 50
    offset: int = 0

    def clause(self) -> str:
        """The end of a query; never more than ``MAX_ROWS`` rows."""
        limit = max(1, min(self.limit, MAX_ROWS))
        return f"LIMIT {limit} OFFSET {max(0, self.offset)}"


FIRST = Slice()
WHOLE = Slice(MAX_ROWS)
"""For answers that are short in practice: as many rows as a slice may have."""


@dataclass(frozen=True)
class Answer:
    """What a question gave."""

    rows: pd.DataFrame
    sql: str
    """The same question with its values written in, ready for the SQL panel."""
    total: int
    """Number of rows there are, of which ``rows`` may be a slice."""

    def records(self) -> list[dict[str, Any]]:
        """The rows as plain values; None where there is none."""
        columns = [self.rows[name].tolist() for name in self.rows.columns]
        return [
            dict(zip(self.rows.columns, map(_plain, values), strict=True))
            for values in zip(*columns, strict=True)
        ]


def ask_part(store: Store, sql: str, parameters: Mapping[str, Any], part: Slice) -> Answer:
    """A slice of the answer to a query, which is counted as a whole."""
    counted = f"SELECT count(*) FROM ({sql})"  # noqa: S608 - a query of this package
    return ask(store, f"{sql.rstrip()}\n{part.clause()}\n", parameters, counted)


def ask(
    store: Store, sql: str, parameters: Mapping[str, Any] | None = None, total_sql: str = ""
) -> Answer:
    """The answer to a query.

    Args:
        store: An open store.
        sql: The query, with ``$name`` for each value.
        parameters: The values.
        total_sql: Query of one number: how many rows there are in all slices together.

    Raises:
        StoreError: A value does not fit, such as a regular expression that cannot be read.
    """
    values = _used(sql, parameters or {})
    try:
        rows = store.frame(sql, values)
        total = len(rows)
        if total_sql:
            total = int(store.rows(total_sql, _used(total_sql, parameters or {}))[0][0])
    except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
        raise StoreError(f"the question cannot be answered: {str(error).splitlines()[0]}") from None
    return Answer(rows, written_out(sql, values), total)


def written_out(sql: str, parameters: Mapping[str, Any]) -> str:
    """A query with its values in place of their names, without blank lines."""
    text = re.sub(r"\$([a-z_]\w*)", lambda match: literal(parameters[match[1]]), sql)
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())


def literal(value: Any) -> str:
    """A value as SQL."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(literal, value))}]"
    return "'" + str(value).replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A column name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def _used(sql: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    names = set(re.findall(r"\$([a-z_]\w*)", sql))
    return {name: value for name, value in parameters.items() if name in names}


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, float) and value != value:  # NaN is how pandas says NULL
        return None
    return None if value is pd.NaT or value is pd.NA else value
