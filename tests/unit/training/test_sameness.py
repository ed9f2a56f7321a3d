"""What a resumed run compares with what it began with, of the texts that it read from files."""

import dataclasses
from pathlib import Path

import pytest

from acft.backbone.loading import load_backbone
from acft.constraints import CONSTRAINTS, build_constraint
from acft.errors import ModelError
from acft.runs.spec import parse_spec
from acft.scoring import ScorerPool
from acft.training.oracle_job import vocabulary_verdicts
from acft.training.outputs import TrainContext
from acft.training.sameness import beside, named, require_same
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


def test_the_same_weights_with_another_chat_template_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    text = tiny_settings(tmp_path)
    before, written = found(text), corpus_of_base(text)
    folder = Path(parse_spec(text).settings.model.name)
    for idle in (".other.json", "conversion.json", "model.safetensors.index.json"):
        (folder / idle).write_text("{}")
    require_same(before, found(text), "run", "begin anew")
    assert corpus_of_base(text) == written
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(ModelError, match=r"the model beside the weights .*chat template"):
        require_same(before, found(text), "run", "begin anew")
    assert corpus_of_base(text) != written
    before.pop(beside("the model"))  # a run that began before this was recorded
    require_same(before, found(text), "run", "begin anew")


def corpus_of_base(text: str) -> list[str]:
    """Names under which the texts that the base writes are remembered."""
    return facts(TrainContext(parse_spec(text).settings))["base_rollouts"]


@pytest.mark.parametrize("changed", ["tokenizer", "code"])
def test_verdicts_of_tokens_are_asked_for_anew_when_tokenizer_or_constraint_are_others(
    tmp_path, monkeypatch, changed
):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    spec = parse_spec(tiny_settings(tmp_path))
    base = load_backbone(spec.settings.model, "cpu", "float32")
    constraint = build_constraint(spec.settings.constraint, ScorerPool("cpu"))

    def ask() -> int:
        vocabulary_verdicts(spec.settings, base, constraint, [])
        return len(list((tmp_path / "cache" / "token-verdicts").iterdir()))

    assert [ask(), ask()] == [1, 1]
    if changed == "tokenizer":
        base = dataclasses.replace(base, texts_sha256="another")
    else:
        monkeypatch.setattr(CONSTRAINTS, "code_sha256", lambda: "another")
    assert ask() == 2


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
