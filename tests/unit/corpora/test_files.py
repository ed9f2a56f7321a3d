import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from acft.corpora.base import Record
from acft.corpora.files import looks_like_file, read_file
from acft.corpora.sources import prompt_records
from acft.errors import DataError
from acft.settings import PromptSettings


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def write_parquet(folder, rows):
    path = folder / "texts.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def message(name, text_field="text", prompt_field=""):
    with pytest.raises(DataError) as caught:
        list(read_file(name, text_field, prompt_field))
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "one fish\n\n  two fish  \r\n"),
        ("a.txt", "\ufeffone fish\ntwo fish"),
        ("a.jsonl", '{"text": "one fish"}\n\n{"text": ""}\n{"text": null}\n{"text": "two fish"}'),
        ("a.csv", "id,text\n1,one fish\n2,two fish\n3,\n"),
        ("A.CSV", '\ufefftext\n"one fish"\n"two fish"\n'),
    ],
)
def test_every_format_gives_the_same_records_without_empty_ones(tmp_path, name, content):
    assert list(read_file(write(tmp_path, name, content), "text")) == [
        Record("one fish"),
        Record("two fish"),
    ]


def test_parquet_gives_records_with_prompt_and_category(tmp_path):
    name = write_parquet(tmp_path, [{"q": "why?", "a": "because", "category": "short"}])
    assert list(read_file(name, "a", "q")) == [Record("because", "why?", category="short")]


def test_a_quoted_csv_text_may_have_several_lines(tmp_path):
    name = write(tmp_path, "a.csv", 'text\n"one,\ntwo"\nthree\n')
    assert [record.text for record in read_file(name, "text")] == ["one,\ntwo", "three"]


def test_a_dotted_name_reaches_into_a_column(tmp_path):
    name = write(tmp_path, "a.jsonl", '{"prompt": {"text": "once upon"}}')
    assert list(read_file(name, "prompt.text")) == [Record("once upon")]


def test_messages_become_turns_and_a_response(tmp_path):
    turns = [("system", "be kind"), ("user", "hello"), ("assistant", "good day")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    name = write(tmp_path, "a.jsonl", json.dumps(row))
    assert list(read_file(name, "messages")) == [
        Record("good day", "be kind\nhello", (("system", "be kind"), ("user", "hello")))
    ]


def chat(tmp_path, *roles):
    messages = [{"role": role, "content": f"by {role}"} for role in roles]
    return write(tmp_path, "chat.jsonl", json.dumps({"messages": messages}))


@pytest.mark.parametrize("roles", [["user"], ["user", "assistant"]])
def test_a_prompt_is_the_question_of_a_conversation_not_its_answer(tmp_path, roles):
    settings = PromptSettings(source=chat(tmp_path, *roles), text_field="messages")
    assert list(prompt_records(settings)) == [Record("by user")]


@pytest.mark.parametrize(
    "roles", [["assistant"], ["system", "user"], ["user", "assistant", "user"]]
)
def test_a_conversation_that_is_no_single_question_is_no_prompt(tmp_path, roles):
    settings = PromptSettings(source=chat(tmp_path, *roles), text_field="messages")
    with pytest.raises(DataError, match=f"these are by {', '.join(roles)}; keep one question"):
        list(prompt_records(settings))


def test_a_missing_file_is_named(tmp_path):
    assert "no file at" in message(str(tmp_path / "absent.jsonl"))


def test_a_folder_is_refused(tmp_path):
    assert message(str(tmp_path)).endswith("is a folder; name one file in it")


def test_a_device_is_refused():
    assert "not a plain file" in message("/dev/zero")


def test_a_name_with_a_nul_byte_is_refused():
    assert "cannot open" in message("a\0.txt")


def test_an_unknown_format_lists_those_there_are(tmp_path):
    assert ".jsonl, .csv, .parquet, .txt" in message(write(tmp_path, "a.docx", "x"))


def test_a_wrong_column_suggests_the_right_one(tmp_path):
    name = write(tmp_path, "a.jsonl", '{"text": "a"}\n{"texts": "b", "id": 1}\n')
    assert "line 2 has no column 'text'; did you mean 'texts'? (columns: texts, id)" in message(
        name
    )


def test_a_column_of_messages_is_pointed_at(tmp_path):
    turn = '{"role": "user", "content": "Hello?"}'
    name = write(tmp_path, "a.jsonl", f'{{"id": 1, "chat": [{turn}]}}\n')
    told = message(name)
    assert told.endswith("""(columns: id, chat); set text_field = "chat", which holds messages""")
    both = write(tmp_path, "b.jsonl", f'{{"text": "Yes.", "chat": [{turn}]}}')
    told = message(both, prompt_field="question")
    assert told.endswith("(columns: text, chat); set prompt_field to one of them")
    told = message(name, text_field="chats")
    assert told.endswith("did you mean 'chat'? (columns: id, chat); set text_field to one of them")


def test_of_two_columns_of_messages_the_one_with_an_answer_is_pointed_at(tmp_path):
    turns = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes."}]
    row = json.dumps({"prompt": turns[:1], "whole": turns})
    assert 'set text_field = "whole"' in message(write(tmp_path, "a.jsonl", row))


def test_a_date_that_python_cannot_hold_is_told_and_the_path_of_nobody_is_no_file(tmp_path):
    far = pa.array([2**60], pa.timestamp("us"))
    pq.write_table(pa.table({"text": ["a"], "when": far}), tmp_path / "a.parquet")
    assert "has a value that cannot be read" in message(str(tmp_path / "a.parquet"))
    assert "no file at '~nobody-of-this-name/a.txt'" in message("~nobody-of-this-name/a.txt")


def test_a_csv_without_the_column_is_refused(tmp_path):
    assert "(columns: id, words)" in message(write(tmp_path, "a.csv", "id,words\n1,a b\n"))


def test_a_missing_prompt_column_is_refused(tmp_path):
    name = write(tmp_path, "a.jsonl", '{"text": "a"}')
    told = message(name, prompt_field="question")
    assert "no column 'question'" in told
    assert told.endswith("set prompt_field to one of them")


@pytest.mark.parametrize("line", ['{"text": ', "plain words", "[" * 100_000, '"text"', "3"])
def test_a_line_that_is_not_a_json_object_is_named(tmp_path, line):
    name = write(tmp_path, "a.jsonl", f'{{"text": "fine"}}\n{line}\n')
    assert "line 2 is not" in message(name)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_text_in_another_encoding_is_refused_with_its_line(tmp_path, name):
    content = '{"text": "ok"}\n{"text": "café"}\n'.encode("latin-1")
    if name == "a.csv":
        content = "text\ncafé\n".encode("latin-1")
    assert "line 2 is not UTF-8 (byte 0xe9)" in message(write(tmp_path, name, content))


def test_half_a_surrogate_pair_is_refused(tmp_path):
    assert "surrogate" in message(write(tmp_path, "a.jsonl", r'{"text": "\ud800"}'))


@pytest.mark.parametrize(
    "content", [",text\n0,one fish\n1,two fish\n", "text,\none fish,\ntwo fish,\n"]
)
def test_a_csv_may_have_a_column_without_a_name(tmp_path, content):
    records = read_file(write(tmp_path, "a.csv", content), "text")
    assert [record.text for record in records] == ["one fish", "two fish"]


def test_a_csv_text_may_be_as_long_as_a_book(tmp_path):
    book = "word " * 200_000
    (record,) = read_file(write(tmp_path, "a.csv", f"text\n{book}\n"), "text")
    assert record.text.strip() == book.strip()


def test_a_csv_row_with_too_many_values_is_refused(tmp_path):
    assert "line 2 has more values" in message(write(tmp_path, "a.csv", "text\nyes, please\n"))


def test_an_unclosed_csv_quote_is_refused(tmp_path):
    assert "is not CSV" in message(write(tmp_path, "a.csv", 'text\n"endless\n'))


def test_the_line_that_is_not_csv_is_named(tmp_path):
    name = write(tmp_path, "a.csv", 'text\nfine\n"so" far\n')
    assert "line 3 is not CSV" in message(name)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_columns_between_other_marks_than_commas_are_told(tmp_path, mark):
    name = write(tmp_path, "a.csv", f"id{mark}text\n1{mark}two fish\n")
    assert f"has {mark!r} between its columns; save it with commas" in message(name)


def test_a_file_that_is_not_parquet_is_refused(tmp_path):
    assert "is not Parquet" in message(write(tmp_path, "a.parquet", "PAR1 no"))


def test_a_number_is_not_taken_for_text(tmp_path):
    assert "'text' holds int, not text" in message(write_parquet(tmp_path, [{"text": 3}]))


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (["a", "b"], "not of messages"),
        ([], "not of messages"),
        ([{"role": "user", "content": "hi"}], "end each conversation with the response"),
        ([{"role": "assistant", "content": 3}], "not text"),
        ([{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "join its parts"),
        ([{"role": "assistant", "content": None, "tool_calls": [{}]}], "calls tools"),
        ([{"role": "assistant", "content": "", "function_call": {"name": "f"}}], "calls tools"),
    ],
)
def test_a_list_that_is_no_conversation_is_refused(tmp_path, value, part):
    assert part in message(write(tmp_path, "a.jsonl", json.dumps({"text": value})))


def test_tools_that_no_prompt_would_name_are_refused_and_none_are_not(tmp_path):
    turns = [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "so"}]
    for tools in ([], None, "[]"):
        name = write(tmp_path, "a.jsonl", json.dumps({"messages": turns, "tools": tools}))
        assert [record.text for record in read_file(name, "messages")] == ["so"]
    name = write(tmp_path, "a.jsonl", json.dumps({"messages": turns, "tools": [{"name": "f"}]}))
    assert "line 1: the conversation has tools" in message(name, "messages")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.jsonl", True), ("./corpus", True), ("A.TXT", True), ("sotu", False), ("v1.0", False)],
)
def test_a_file_is_told_from_a_registered_name(name, expected):
    assert looks_like_file(name) is expected
