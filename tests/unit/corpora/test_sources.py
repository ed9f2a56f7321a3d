import pytest

from acft.corpora.base import Record
from acft.corpora.sources import check_sources, corpus_records, needs_policy, prompt_records
from acft.errors import DataError
from acft.settings import CorpusSettings, PromptSettings, RunSettings


def problems(corpus=(), prompts="inline:hello"):
    corpora = [{"source": entry} if isinstance(entry, str) else entry for entry in corpus]
    return check_sources(RunSettings.parse({"prompts": {"source": prompts}, "corpus": corpora}))


def test_inline_texts_are_one_on_each_line():
    settings = PromptSettings(source="inline:one\n\n  two ")
    assert list(prompt_records(settings)) == [Record("one"), Record("two")]


def test_a_path_is_read_as_a_file(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"q": "why?", "a": "so"}')
    settings = CorpusSettings(source=str(tmp_path / "a.jsonl"), text_field="a", prompt_field="q")
    assert list(corpus_records(settings)) == [Record("so", "why?")]


def test_the_policys_own_texts_cannot_be_read_before_a_run():
    settings = CorpusSettings(source="base_rollouts")
    assert needs_policy(settings)
    assert not needs_policy(CorpusSettings(source="sotu"))
    with pytest.raises(DataError, match="written by the policy"):
        corpus_records(settings)


def test_sources_that_can_be_used_have_no_problem(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    assert problems(["base_rollouts", "inline:a", str(tmp_path / "a.txt")]) == []


def test_sources_of_the_network_are_not_opened():
    assert problems(["wikitext", "hub:nobody/nothing"]) == []


def test_all_problems_are_told_at_once_each_with_its_place():
    found = problems(
        ["sotuu", "gone.jsonl", "hub:a b", "inline:", {"source": "sotu", "prompt_field": "q"}],
        prompts="neutrall",
    )
    expected = [
        "[prompts] source = 'neutrall': unknown prompt set 'neutrall'; did you mean 'neutral'?",
        "[corpus.0] source = 'sotuu': unknown corpus 'sotuu'; did you mean 'sotu'?",
        "[corpus.1] source = 'gone.jsonl': no file at 'gone.jsonl'",
        "[corpus.2] source = 'hub:a b': 'a b' does not name a hub data set",
        "[corpus.3] source = 'inline:': it has no texts",
        "[corpus.4] source = 'sotu': prompt_field is for files and hub data sets only",
    ]
    assert len(found) == len(expected)
    for problem, start in zip(found, expected, strict=True):
        assert problem.startswith(start)
        assert "\n" not in problem


def test_no_corpus_is_no_wrong_source():
    assert problems() == []


def test_a_wrong_column_is_a_problem(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"texts": "a"}')
    assert "did you mean 'texts'?" in problems([str(tmp_path / "a.jsonl")])[0]


def test_an_empty_file_is_a_problem(tmp_path):
    (tmp_path / "a.csv").write_text("")
    assert "it has no texts" in problems([str(tmp_path / "a.csv")])[0]
