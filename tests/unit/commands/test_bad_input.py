"""Bad input to a run: one sentence with the way out, exit code 2, nothing half done."""

import json

import pytest

from acft.__main__ import main
from acft.data import split_of
from acft.runs.directory import all_runs, read_status
from tests.tiny_run import tiny_settings

NOWHERE = "/no/such/place"
NOBODY = ["constraint.0.pattern='#'", "constraint.0.must='occur'"]
EVERYBODY = ["constraint.0.pattern='#'", "constraint.0.must='not_occur'"]
NOT_THERE = {
    "a missing model": ([f"model.name='{NOWHERE}'"], "is no directory"),
    "a misspelt model": (["model.name='smollm2-135'"], "did you mean 'smollm2-135m'?"),
    "a missing corpus": ([f"corpus.1.source='{NOWHERE}.txt'"], NOWHERE),
    "an empty corpus": (["corpus.1.source='EMPTY'"], "[corpus.1] source = "),
    "empty prompts": (["prompts.source='EMPTY'"], "the file is empty; name another"),
    "a corpus of blank lines": (["corpus.1.source='BLANK'"], "it has no texts; name a source"),
    "blank prompts": (["prompts.source='BLANK'"], "it has no texts; name a source"),
    "a column that is not there": (
        ["corpus.1.source='TALK'", "corpus.1.text_field='talk'"],
        "did you mean 'talks'?",
    ),
}
"""Told before there is a run."""
CASES = {
    "a constraint nobody satisfies": (NOBODY, "none of 72 responses satisfies the constraint"),
    "a constraint everybody satisfies": (EVERYBODY, "all 72 responses satisfy the constraint"),
    "prompts longer than the context": (
        ["sampling.horizon=125", "optimizer.max_tokens=128"],
        "shorten or remove them, or lower the horizon",
    ),
}


LONG = [f"{'word ' * 40}{n}" for n in range(40)]
"""Longer than the context of the tiny model."""


@pytest.fixture
def train(tmp_path, capsys):
    """Trains with settings changed: the exit code, what was said, and the run if there is one."""
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "blank.txt").write_text("\n\n")
    config = tmp_path / "tiny.toml"
    config.write_text(tiny_settings(tmp_path))

    def trained(*changes):
        (tmp_path / "talk.jsonl").write_text('{"talks": "One text."}')
        for word, ending in (("EMPTY", "txt"), ("BLANK", "txt"), ("TALK", "jsonl")):
            file = str(tmp_path / f"{word.lower()}.{ending}")
            changes = [change.replace(word, file) for change in changes]
        options = [word for change in changes for word in ("--set", change)]
        capsys.readouterr()
        code = main(["train", str(config), "--runs", str(tmp_path / "runs"), *options])
        runs = all_runs(tmp_path / "runs") if (tmp_path / "runs").exists() else []
        return code, " ".join(capsys.readouterr().err.split()), next(iter(runs), None)

    return trained


@pytest.mark.parametrize("name", NOT_THERE)
def test_what_is_not_there_is_told_before_a_run_is_made(train, name):
    changes, told = NOT_THERE[name]
    code, said, run = train(*changes)
    assert (code, run) == (2, None)
    assert told in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_sentence_with_the_way_out(train, name):
    changes, told = CASES[name]
    code, said, run = train(*changes)
    assert code == 2
    assert told in said
    assert "Traceback" not in said
    status = read_status(run)
    assert status.state == "failed"
    assert told in status.message
    assert status.advice
    assert not list(run.checkpoints.iterdir())


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_prompt_of_any_split_that_is_too_long_is_told_before_the_first_step(
    train, tmp_path, split
):
    long = [text for text in LONG if split_of(text) == split]
    with (tmp_path / "prompts.txt").open("a") as file:
        file.write("\n" + "\n".join(long))
    code, said, run = train("evaluation.test_prompts=40")
    assert code == 2
    assert f"{len(long)} prompts do not fit the model's context of 128 tokens" in said
    assert (read_status(run).phase, read_status(run).step) == ("load", 0)


def test_documents_longer_than_the_context_are_told_before_the_first_step(train, tmp_path):
    (tmp_path / "lines.txt").write_text("\n".join(LONG))
    code, said, run = train("optimizer.max_tokens=400")
    assert code == 2
    assert "set [optimizer] max_tokens to 128 or less" in said
    assert (read_status(run).phase, read_status(run).step) == ("load", 0)


def test_documents_that_cannot_be_used_are_told_with_their_corpus(train):
    texts = "inline:one\\ntwo\\nthree\\nfour\\nfive\\nsix\\nten"
    code, said, _ = train(f'corpus.1.source="{texts}"')
    assert code == 2
    assert "documents of 'inline:one" in said


def test_a_pad_token_that_the_model_knows_nothing_of_is_no_obstacle(train, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokenizer.add_special_tokens({"pad_token": "<added>"})
    tokenizer.save_pretrained(tmp_path / "model")
    code, said, run = train("schedule.rounds=1")
    assert code == 0, said
    assert read_status(run).state == "finished"


@pytest.mark.parametrize("method", ["acft", "dpo"])
@pytest.mark.parametrize("missing", [["pad_token"], ["pad_token", "eos_token"]])
def test_a_tokenizer_without_padding_or_end_is_no_obstacle(train, tmp_path, missing, method):
    file = tmp_path / "model" / "tokenizer_config.json"
    config = json.loads(file.read_text())
    kept = {key: value for key, value in config.items() if key not in missing}
    file.write_text(json.dumps(kept))
    code, said, run = train("schedule.rounds=1", f"method={{name='{method}'}}")
    assert code == 0, said
    assert read_status(run).state == "finished"
