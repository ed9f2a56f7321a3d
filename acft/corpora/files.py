"""Local JSON Lines, CSV, Parquet and text files as records."""

import csv
import json
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from acft.corpora.base import Record, first_line, utf8_lines
from acft.errors import DataError
from acft.registry import did_you_mean

Row = tuple[str, Mapping[str, Any]]
"""Where a row stands in its file, for messages, and its columns."""
FIELD_LETTERS = (1 << 31) - 1
"""Of a CSV field at most; the reader's own limit is less than a chapter of a book."""


def read_file(
    name: str, text_field: str, prompt_field: str = "", *, are_prompts: bool = False
) -> Iterator[Record]:
    """Records of a local file, in order; rows without text are left out.

    Args:
        name: Path of a ``.jsonl``, ``.csv``, ``.parquet`` or ``.txt`` file; a line of a text file
            is one text, the other formats have columns.
        text_field: Column of the text. A list of ``{"role", "content"}`` messages is read as a
            conversation whose last message is the response. ``a.b`` is field ``b`` of column ``a``.
        prompt_field: Column of the prompt; empty if the file has none.
        are_prompts: The texts are to be answered; of messages the question is taken.

    Raises:
        DataError: The file is missing, not a plain file, not of its format or without a column;
            says the line and what to do.
    """
    path = _plain_file(name)
    rows = _readers()[path.suffix.lower()](path)
    if path.suffix.lower() == ".txt":
        text_field, prompt_field = "text", ""
    return records(rows, text_field, prompt_field, are_prompts=are_prompts)


def looks_like_file(name: str) -> bool:
    """Whether a source's name can only be meant as a path."""
    return "/" in name or "\\" in name or Path(name).suffix.lower() in _readers()


def records(
    rows: Iterable[Row], text_field: str, prompt_field: str, *, are_prompts: bool = False
) -> Iterator[Record]:
    """Records of rows that have columns; rows without text are left out.

    Raises:
        DataError: A row lacks a column, or a column holds something else than text.
    """
    for where, row in rows:
        read = _question if are_prompts else _conversation
        turns, text = read(_value(row, text_field, where, "text_field"), text_field, where)
        prompt = ""
        if prompt_field:
            prompt = _text(_value(row, prompt_field, where, "prompt_field"), where, prompt_field)
        if turns and row.get("tools") not in NO_TOOLS:
            raise DataError(
                f"{where}: the conversation has tools, which are not put into prompts here; leave "
                "such conversations out, or remove 'tools'"
            )
        if not prompt and turns:
            prompt = "\n".join(content for _, content in turns)
        if text.strip():
            category = row.get("category")
            yield Record(text, prompt, turns, category if isinstance(category, str) else "")


def local_path(name: str) -> Path:
    """The path that a source names; ``~`` stays where it names nobody of this machine."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def _plain_file(name: str) -> Path:
    path = local_path(name)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"no file at {name!r}; check the path, relative ones start here") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot open {name!r}: {error}") from None
    if stat.S_ISDIR(mode):
        raise DataError(f"{name!r} is a folder; name one file in it")
    if not stat.S_ISREG(mode):
        raise DataError(f"{name!r} is a device or pipe, not a plain file; save the texts in a file")
    if path.suffix.lower() not in _readers():
        raise DataError(
            f"{name!r} has an unknown format {path.suffix!r} (allowed: {', '.join(_readers())})"
        )
    return path


def _readers() -> dict[str, Callable[[Path], Iterator[Row]]]:
    return {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet, ".txt": _txt}


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            yield from utf8_lines(file, str(path))
    except OSError as error:
        raise DataError(f"cannot read {str(path)!r}: {error}") from None


def _txt(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), start=1):
        yield f"{str(path)!r} line {number}", {"text": line.strip()}


def _jsonl(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), start=1):
        where = f"{str(path)!r} line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{where} is not JSON: {error}; write one object on each line"
            ) from None
        if not isinstance(row, dict):
            raise DataError(f"{where} is not a JSON object; write one object on each line")
        yield where, row


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(FIELD_LETTERS)
    reader = csv.DictReader(_lines(path), strict=True)
    try:
        header = "".join(reader.fieldnames or ()) if len(reader.fieldnames or ()) == 1 else ""
        if mark := next((mark for mark in ";\t" if mark in header), ""):
            raise DataError(
                f"{str(path)!r} has {mark!r} between its columns; save it with commas there"
            )
        for row in reader:
            where = f"{str(path)!r} line {reader.line_num}"
            if None in row:
                raise DataError(f"{where} has more values than the header; quote texts with commas")
            yield where, row
    except csv.Error as error:
        # the reader inside counts the line that it could not read, too
        line = reader.reader.line_num
        raise DataError(f"{str(path)!r} line {line} is not CSV: {error}") from None


def _parquet(path: Path) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{str(path)!r} row {number}", row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{str(path)!r} is not Parquet: {first_line(str(error))}") from None
    except (ValueError, ArithmeticError, LookupError) as error:  # a date beyond Python's, or zone
        raise DataError(
            f"{str(path)!r} has a value that cannot be read: {first_line(str(error))}; leave its "
            "column out"
        ) from None


def _value(row: Mapping[str, Any], field: str, where: str, setting: str) -> Any:
    value: Any = row
    for name in [field] if field in row else field.split("."):
        if not isinstance(value, Mapping) or name not in value:
            columns = [str(column) for column in row]
            near, talk = did_you_mean(field, columns), _conversation_column(row)
            is_talk_meant = setting == "text_field" and talk and not near
            advice = f'= "{talk}", which holds messages' if is_talk_meant else "to one of them"
            raise DataError(
                f"{where} has no column {field!r}{near} "
                f"(columns: {', '.join(columns)}); set {setting} {advice}"
            )
        value = value[name]
    return value


def _text(value: Any, where: str, field: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(
            f"{where}: column {field!r} holds {type(value).__name__}, not text; "
            "name a column of texts"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{where}: column {field!r} has half of a surrogate pair; remove or repair that text"
        ) from None
    return value


NO_TOOLS = (None, [], "", "[]", "null")
"""What the column of tools holds in conversations without."""
CALLS = ("tool_calls", "function_call")
"""Keys of a message that stand beside its text, or instead of it."""
Turns = tuple[tuple[str, str], ...]
"""Role and content of each message."""


def _conversation_column(row: Mapping[str, Any]) -> str:
    """One that holds messages, best with an answer at their end; empty where there is none."""
    talks = [column for column, held in row.items() if _is_conversation(held)]
    return max(talks, key=lambda column: row[column][-1]["role"] == "assistant", default="")


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(
        isinstance(turn, Mapping) and {"role", "content"} <= turn.keys() for turn in value
    )  # fmt: skip


def _messages(value: list[Any], field: str, where: str) -> Turns:
    if not _is_conversation(value):
        raise DataError(
            f"{where}: column {field!r} is a list, but not of messages with 'role' and 'content'"
        )
    for turn in value:
        if any(turn.get(key) for key in CALLS):
            raise DataError(
                f"{where}: a message by {turn['role']!r} calls tools, which is no text to learn; "
                "leave such conversations out, or write the call into its content"
            )
        if isinstance(turn["content"], list):
            raise DataError(
                f"{where}: the content of a message by {turn['role']!r} is a list, not text; "
                "join its parts to one text"
            )
    return tuple(
        (_text(turn["role"], where, field), _text(turn["content"], where, field)) for turn in value
    )


def _conversation(value: Any, field: str, where: str) -> tuple[Turns, str]:
    """The messages before the last, and the response."""
    if not isinstance(value, list):
        return (), _text(value, where, field)
    *before, last = _messages(value, field, where)
    if last[0] != "assistant":
        raise DataError(
            f"{where}: the last message is by {last[0]!r}, expected 'assistant'; "
            "end each conversation with the response"
        )
    return tuple(before), last[1]


def _question(value: Any, field: str, where: str) -> tuple[Turns, str]:
    """No messages before it, and the prompt."""
    if not isinstance(value, list):
        return (), _text(value, where, field)
    messages = _messages(value, field, where)
    roles = [role for role, _ in messages]
    if roles not in (["user"], ["user", "assistant"]):
        raise DataError(
            f"{where}: a prompt is one message by 'user', whose answer by 'assistant' is left out, "
            f"but these are by {', '.join(roles)}; keep one question in each record"
        )
    return (), messages[0][1]
