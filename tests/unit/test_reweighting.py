from typing import Any, ClassVar

import pytest
import torch

from acft.backbone.loading import load_backbone
from acft.data import prompt_of
from acft.decoding.base import DecodedJudge, DecodedPolicy
from acft.errors import DataError
from acft.likelihood import own_likelihoods
from acft.policy import Policy
from acft.reweighting import begin
from acft.settings import ModelSettings, SamplingSettings
from tests.fakes import save_tiny_model

PROMPTS = [prompt_of("See the rain"), prompt_of("Sun")]
SAMPLING = SamplingSettings(horizon=4)


class Answering:
    """Answers the first tokens as the policy does, then with what it was given."""

    truncates: ClassVar[bool] = False

    def __init__(self, answer, right=0):
        self.answer = answer
        self.right = right

    def start(self, prompts, prompt_ids):
        self.left = self.right
        return self

    def reweight(self, next_logprobs, hidden, token_ids):
        self.left -= 1
        return next_logprobs if self.left >= 0 else self.answer(next_logprobs)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = save_tiny_model(tmp_path_factory.mktemp("tiny"))
    return Policy(load_backbone(ModelSettings(name=str(folder)), "cpu", "float32"))


def drawn(policy, decoder, **sampling):
    settings = SAMPLING.model_copy(update=sampling)
    return DecodedPolicy(policy, decoder).sample(PROMPTS, 2, settings, 0).rollouts


SHAPELESS = {
    "a column too few": (lambda lps: lps[:, 1:], "a tensor of shape [4, "),
    "none": (lambda lps: None, "gave None"),
    "a list": (lambda lps: lps.tolist(), "gave a list"),
    "whole numbers": (lambda lps: lps.long(), "torch.int64"),
}
WRONG_MASS = {
    "probabilities": lambda lps: lps.exp(),
    "nothing possible": lambda lps: torch.full_like(lps, -torch.inf),
    "not a number": lambda lps: lps * torch.nan,
    "not normalised": lambda lps: lps + 0.1,
    "not normalised in 16 bits": lambda lps: (lps + 0.1).bfloat16(),
}


@pytest.mark.parametrize("right", [0, 2])
@pytest.mark.parametrize("name", SHAPELESS)
def test_an_answer_of_another_form_is_refused_at_every_token(policy, name, right):
    answer, found = SHAPELESS[name]
    with pytest.raises(DataError, match="floating point numbers on cpu") as refused:
        drawn(policy, Answering(answer, right))
    assert found in str(refused.value)
    assert "decoder Answering, method reweight (" in str(refused.value)
    assert "test_reweighting.py, line " in str(refused.value)


@pytest.mark.parametrize("name", WRONG_MASS)
def test_a_first_answer_that_is_no_distribution_is_refused(policy, name):
    with pytest.raises(DataError, match=r"for 4 of 4 responses: .* add up to .*log_softmax"):
        drawn(policy, Answering(WRONG_MASS[name]))


@pytest.mark.parametrize("name", ["not a number", "not normalised"])
def test_later_answers_that_cannot_be_log_probabilities_are_refused(policy, name):
    answer = {"not normalised": lambda lps: lps + 10.0}.get(name, WRONG_MASS[name])
    with pytest.raises(DataError, match="the likeliest token has"):
        drawn(policy, Answering(answer, right=2))


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_a_later_token_that_cannot_be_drawn_is_told_instead_of_a_wrong_one(policy, top_p):
    with pytest.raises(DataError, match=r"left no token possible.* for token 3 of a response"):
        drawn(policy, Answering(WRONG_MASS["nothing possible"], right=2), top_p=top_p)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_log_probabilities_of_every_precision_are_taken(dtype):
    generator = torch.Generator().manual_seed(0)
    spread = torch.linspace(0.1, 12, 30)[:, None]
    lps = (spread * torch.randn(30, 50_000, generator=generator)).log_softmax(dim=-1)
    decoder = Answering(lambda lps: lps.to(dtype))
    session = begin(decoder, ["x"] * 30, [[1]] * 30)
    for _ in range(2):
        given = session.reweight(lps, torch.zeros(30, 4), torch.zeros(30, dtype=torch.long))
        assert given.dtype == dtype


def test_a_decoder_that_starts_no_session_is_refused_and_not_left_out(policy):
    class Forgetful(Answering):
        def start(self, prompts, prompt_ids) -> Any:
            super().start(prompts, prompt_ids)

    with pytest.raises(DataError, match=r"Forgetful gave None for 4 prompts; its start \(.*line"):
        drawn(policy, Forgetful(WRONG_MASS["probabilities"]))


def test_texts_are_judged_by_no_answer_that_would_not_be_drawn_from(policy):
    rollouts = policy.sample(PROMPTS, 2, SAMPLING, 0).rollouts
    judge = DecodedJudge(policy, Answering(WRONG_MASS["probabilities"]))
    with pytest.raises(DataError, match="add up to"):
        own_likelihoods(judge, rollouts)
