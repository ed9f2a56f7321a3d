"""A run's policies as a notebook has them."""

import math
from typing import Any, cast

import pytest

import acft
from acft.data import prompt_of
from acft.errors import ConfigError, DataError, ModelError, RunError
from acft.runs.restore import open_run as restored_run
from acft.settings import SamplingSettings
from tests.tiny_run import tiny_settings, train

PROMPTS = ["See the rain", "On a hill"]


def test_every_subject_answers_with_the_numbers_of_the_run(own_run):
    run = acft.open_run(own_run.root, device="cpu")
    tables = {who: run.sample(PROMPTS, 40, who, seed=1) for who in ("base", "tuned", "guided")}
    for table in tables.values():
        assert table["prompt"].tolist() == [text for text in PROMPTS for _ in range(40)]
        assert table["satisfaction"].between(0, 1).all()
    texts = {who: table["response"].tolist() for who, table in tables.items()}
    assert len({*map(tuple, texts.values())}) == 3
    restored = restored_run(own_run.root, device="cpu")
    how = SamplingSettings(
        horizon=restored.settings.sampling.horizon, top_p=restored.settings.evaluation.top_p
    )
    for who, decoder in (("base", "plain"), ("tuned", "plain"), ("guided", "guided")):
        subject = "base" if who == "base" else "tuned"
        sampler = restored.sampler(subject, decoder)
        drawn = sampler.sample([prompt_of(text) for text in PROMPTS], 40, how, 1).rollouts
        assert texts[who] == [rollout.response_text for rollout in drawn]


def test_one_text_is_a_prompt_and_sampling_can_be_chosen(own_run):
    run = acft.open_run(own_run.root, device="cpu")
    table = run.sample(PROMPTS[0], horizon=2, top_p=1.0)
    assert table["prompt"].tolist() == [PROMPTS[0]]
    with pytest.raises(ConfigError, match="horizon"):
        run.sample(PROMPTS[0], horizon=0)


def test_token_values_are_a_row_for_each_token_after_the_first(own_run):
    run = acft.open_run(own_run.root, checkpoint=1, device="cpu")
    table = run.token_values("See the rain", " on top")
    assert run.round == 1
    assert "".join(table["token_text"]).endswith(" on top")
    assert max(table["logprob_base"]) <= 0
    assert any(math.isfinite(value) for value in table["kl_guided_policy"])
    assert isinstance(table["alternatives"].iloc[-1][0]["policy"], float)


def test_what_cannot_answer_is_refused_with_what_can(own_run, tmp_path):
    run = acft.open_run(own_run.root, device="cpu")
    with pytest.raises(ConfigError, match="base, tuned, guided"):
        run.sample(PROMPTS, subject=cast("Any", "policy"))
    with pytest.raises(DataError, match="has no tokens"):
        run.sample([""])
    with pytest.raises(RunError, match="sealed rounds: 1, 2"):
        acft.open_run(own_run.root, checkpoint=9)
    with pytest.raises(RunError, match="is no run's folder"):
        acft.open_run(tmp_path / "nowhere")


@pytest.mark.parametrize("method", ["sft", "nado_decoding"])
def test_methods_without_oracle_or_tuning_answer_as_far_as_they_can(tmp_path, monkeypatch, method):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    settings = tiny_settings(tmp_path)
    paths, code = train(settings, tmp_path / "runs", f'method={{name="{method}"}}')
    assert code == 0
    run = acft.open_run(paths.root, device="cpu")
    tuned = run.sample(PROMPTS, 60, "tuned")["response"].tolist()
    if method == "sft":
        with pytest.raises(ModelError, match="no oracle"):
            run.sample(PROMPTS, subject="guided")
    else:
        assert tuned == run.sample(PROMPTS, 60, "base")["response"].tolist()
        assert len(run.sample(PROMPTS, 2, "guided")) == 4
    assert len(run.token_values("See the rain", " on top"))
