"""What a resumed run compares with what it began with, of the texts that it read from files."""

import pytest

from acft.errors import ModelError
from acft.runs.spec import parse_spec
from acft.training.outputs import TrainContext
from acft.training.sameness import named, require_same
from acft.training.world import facts, load_world
from tests.tiny_run import LINES, tiny_settings
from tests.toy_runs import drained


def found(text: str) -> dict[str, str]:
    return named(facts(TrainContext(parse_spec(text).settings)))


@pytest.mark.parametrize(
    ("file", "name"),
    [("lines.txt", r"corpus '\[corpus\.1\] .*lines\.txt'"), ("prompts.txt", "prompts")],
)
def test_a_text_more_is_noticed_and_the_same_texts_pass(tmp_path, monkeypatch, file, name):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    text = tiny_settings(tmp_path)
    before = found(text)
    assert sum(name.startswith("corpus") for name in before) == 1
    require_same(before, found(text), "run", "begin anew")
    with (tmp_path / file).open("a") as texts:
        texts.write("\nOne line more, which was not there.")
    with pytest.raises(ModelError, match=name):
        require_same(before, found(text), "run", "begin anew")


def test_a_file_that_was_read_for_the_record_is_not_read_again_for_the_training(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    context = TrainContext(parse_spec(tiny_settings(tmp_path)).settings)
    facts(context)
    (tmp_path / "lines.txt").unlink()
    world = drained(load_world(context))
    own, lines = (documents for _, documents in world.corpora)
    assert len(own) == 8
    assert 0 < len(lines) < len(LINES)
    assert not context.documents
