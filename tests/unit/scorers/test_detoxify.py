import os
import shutil
from pathlib import Path

import pytest
import torch

from acft.errors import ModelError
from acft.scorers import load_scorer, scorer_problem
from acft.scorers.detoxify import BASE_MODELS, ENVIRONMENT
from acft.scorers.ports.detoxify_checkpoint import read_checkpoint
from tests.fake_scorers import save_detoxify, tiny_bert

NAME = "detoxify_original"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    return tmp_path / "original"


def checkpoint_file(folder):
    (file,) = folder.glob("*.ckpt")
    return file


def test_the_score_is_the_checkpoints_own_sigmoid(folder):
    save_detoxify(folder, ["insult", "toxicity", "threat"])
    scorer = load_scorer(NAME)
    token_ids = torch.tensor([list(b"hello there")])
    with torch.inference_mode():
        expected = tiny_bert(3)(token_ids).logits.sigmoid()[0, 1].item()
    assert scorer.score(["hello there"]) == pytest.approx([expected], abs=1e-6)
    assert scorer.version == "toxic_original-00000000"


def test_positions_stored_by_older_versions_are_ignored(folder):
    weights = tiny_bert(2).state_dict()
    save_detoxify(folder, state_dict=weights | {"bert.embeddings.position_ids": torch.arange(96)})
    assert len(load_scorer(NAME).score(["text"])) == 1


class Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


def test_a_checkpoint_that_would_run_something_is_refused_and_runs_nothing(
    folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    save_detoxify(folder, extra=Attack())
    with pytest.raises(ModelError, match="anything else is refused"):
        load_scorer(NAME)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize(
    "parts",
    [{"config": {}}, {"config": {"arch": {"args": {"num_classes": 2}}}}, {"config": 3}],
    ids=["empty", "no classes", "a number"],
)
def test_a_checkpoint_of_something_else_says_what_it_needs(folder, parts):
    save_detoxify(folder, **parts)
    with pytest.raises(ModelError, match=r"is not detoxify's.*it needs state_dict"):
        load_scorer(NAME)


def test_a_checkpoint_without_a_toxic_class_is_refused(folder):
    save_detoxify(folder, ["insult", "threat"])
    with pytest.raises(ModelError, match="is not detoxify's"):
        read_checkpoint(checkpoint_file(folder))


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_a_damaged_checkpoint_is_an_error_that_names_it(folder, content):
    save_detoxify(folder)
    checkpoint_file(folder).write_bytes(content)
    with pytest.raises(ModelError, match=r"toxic_original-00000000\.ckpt"):
        load_scorer(NAME)


def test_weights_that_do_not_fit_the_configuration_are_refused(folder):
    weights = tiny_bert(2).state_dict()
    weights["bert.other"] = weights.pop("bert.pooler.dense.weight")
    save_detoxify(folder, state_dict=weights)
    with pytest.raises(ModelError, match=r"1 weights are missing .* and 1 are not part of"):
        load_scorer(NAME)


def test_two_checkpoints_are_not_decided_silently(folder):
    save_detoxify(folder)
    (folder / "second.ckpt").touch()
    with pytest.raises(ModelError, match=r"holds 2 \*\.ckpt files; leave exactly one"):
        load_scorer(NAME)


def test_a_folder_without_its_files_says_which_are_missing(folder):
    assert "has no *.ckpt and no config.json" in scorer_problem(NAME)


def test_offline_without_a_folder_says_which_variable_to_set(monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=f"offline; set {ENVIRONMENT}"):
        load_scorer(NAME)


def test_a_configuration_that_cannot_be_opened_is_named(folder):
    save_detoxify(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"original' does not fit toxic_original-00000000\.ckpt"):
        load_scorer(NAME)


def test_online_the_checkpoint_is_fetched_once_and_checked_by_the_hash_in_its_name(
    monkeypatch, tmp_path
):
    base = save_detoxify(tmp_path / "release")
    asked = []

    def fetch(address, file, hash_prefix, *, progress):
        asked.append((Path(file).name, hash_prefix))
        shutil.copy(checkpoint_file(base), file)

    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    monkeypatch.setitem(BASE_MODELS, "original", str(base))
    scores = [load_scorer(NAME).score(["a text"]) for _ in range(2)]
    assert scores[0] == scores[1]
    assert asked == [("toxic_original-c1212f89.ckpt", "c1212f89")]


def test_a_download_that_fails_says_what_to_do_instead(monkeypatch, tmp_path):
    def fail(*_arguments, **_settings):
        raise OSError("no route to host")

    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(ModelError, match=f"no route to host.*{ENVIRONMENT}.*bert-base-uncased"):
        load_scorer(NAME)
