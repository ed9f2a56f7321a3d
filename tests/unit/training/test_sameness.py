"""What a resumed run compares with what it began with, of the texts that it read from files."""

import pytest

from acft.errors import ModelError
from acft.runs.spec import parse_spec
from acft.training.outputs import TrainContext
from acft.training.sameness import named, require_same
from acft.training.world import facts
from tests.tiny_run import tiny_settings


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
