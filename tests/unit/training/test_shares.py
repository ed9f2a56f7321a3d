"""What each of several processes draws of the responses that all of them learn from."""

import pytest

from acft.distributed import Ranks
from acft.settings import CorpusSettings
from acft.training import base_rollouts, responses
from acft.training.responses import own_responses
from tests.toy_runs import drained, toy_run, world_of


class Apart(Ranks):
    """A process that hears nothing of the others."""

    def joined(self, own):
        return list(own)

    def from_first(self, value):
        return value


@pytest.fixture
def opened(tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    return world_of(toy_run(tmp_path, "oracle.rollouts_per_round=400"))


@pytest.mark.parametrize("batch_size", [64, 1024])
def test_own_responses_are_drawn_once_and_are_those_of_a_single_process(
    opened, monkeypatch, batch_size
):
    sampling = opened.run.sampling.model_copy(update={"batch_size": batch_size})
    opened.run = opened.run.model_copy(update={"sampling": sampling})

    def drawn():
        judged = drained(own_responses(opened, opened.base, 1))
        return [(item.rollout.rollout_id, item.rollout.response_ids) for item in judged]

    whole = drawn()
    shares = []
    for rank in range(2):
        monkeypatch.setattr(responses, "ranks", lambda rank=rank: Apart(rank, 2))
        shares.append(drawn())
    assert all(100 < len(share) < 300 for share in shares)
    assert sorted(shares[0] + shares[1]) == sorted(whole)


def test_a_corpus_that_the_base_writes_is_drawn_once(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(base_rollouts, "BASE_PROMPTS", 2)
    corpus = CorpusSettings(source="base_rollouts", domain="attribute", max_documents=40)

    def written(cache):
        monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / cache))
        texts = base_rollouts.base_rollouts(
            corpus, opened.base, opened.prompts["train"], opened.run
        )
        return [document.token_ids for document in drained(texts)]

    whole = written("whole")
    shares = []
    for rank in range(2):
        monkeypatch.setattr(base_rollouts, "ranks", lambda rank=rank: Apart(rank, 2))
        shares.append(written(f"of-{rank}"))
    assert all(len(share) < len(whole) for share in shares)
    assert sorted(shares[0] + shares[1]) == sorted(whole)
    assert not (tmp_path / "of-1").exists()  # the first process remembers it for all


def test_texts_of_another_precision_are_another_corpus(opened):
    corpus = CorpusSettings(source="base_rollouts", domain="attribute")
    names = {
        base_rollouts.base_rollouts_key(
            corpus, "", opened.prompts["train"], replace_dtype(opened.run, dtype)
        )
        for dtype in ("auto", "float32", "bfloat16")
    }
    assert len(names) == 2  # on a CPU auto is float32


def replace_dtype(run, dtype):
    return run.model_copy(update={"dtype": dtype})
