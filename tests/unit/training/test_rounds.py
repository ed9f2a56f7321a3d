"""When a run ends before its last round, and what its jobs say about their order."""

import dataclasses
from contextlib import contextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from acft.engines.local import LocalEngine
from acft.errors import ConfigError
from acft.events import Note
from acft.methods.acft import AcftSettings, _sampled_documents, _why_in_turn, as_set
from acft.schedule import rounds
from acft.settings import RunSettings
from acft.training.oracle_job import Guide, OracleRound, build_oracle
from acft.training.regularizer import Regularizer
from acft.training.responses import own_responses
from tests.toy_runs import Trained, drained, toy_run, trained, world_of

ACFT = {"name": "acft"}
SFT = {"name": "sft"}
NADO = {"name": "nado_decoding"}


def notes(result: Trained) -> list[str]:
    return [output.text for output in result.outputs if isinstance(output, Note)]


def test_the_kl_term_is_as_the_settings_say_and_keeps_what_rounds_decide(tmp_path):
    world = world_of(toy_run(tmp_path))
    rule = Regularizer(Guide(build_oracle(world), 1.0, 0), world.base, kl_weight=3.0)
    asked = AcftSettings(
        kl="policy_guided", delta=0.5, adaptive=False, prefixes=("guided",), reach_weighted=True
    )
    assert as_set(rule, asked) == Regularizer(
        rule.guide, world.base, 3.0, "policy_guided", 0.5, is_adaptive=False, on_corpus=False,
        is_reach_weighted=True,
    )  # fmt: skip


@pytest.mark.parametrize("method", [ACFT, SFT, NADO], ids=["acft", "sft", "nado"])
def test_a_run_over_its_budget_trains_no_further_even_when_resumed(tmp_path, method):
    run = toy_run(tmp_path, "limits.kl_base_budget=1e-9")
    whole = trained(tmp_path / "whole", run, method)
    assert whole.checkpoints.keys() == {1}
    assert any("kl_base_budget" in text for text in notes(whole))
    resumed = trained(tmp_path / "resumed", run, method, resume=(whole.checkpoints[1], 1))
    assert not resumed.checkpoints
    assert any("kl_base_budget" in text for text in notes(resumed))


def test_jobs_that_take_turns_in_the_parallel_schedule_say_why_once(tmp_path):
    one = toy_run(tmp_path, "schedule.kind=parallel", "schedule.threads=1")
    assert sum("one thread" in text for text in notes(trained(tmp_path / "one", one, ACFT))) == 1
    two = toy_run(tmp_path, "schedule.kind=parallel", "schedule.threads=2")
    assert not any("turns" in text for text in notes(trained(tmp_path / "two", two, ACFT)))


def drawn_by(run: RunSettings, kind: str) -> RunSettings:
    return run.model_copy(update={"engine": run.engine.model_copy(update={"kind": kind})})


@pytest.mark.parametrize(("device", "kind"), [("cpu", "compiled"), ("cuda", "local")])
def test_only_recorded_steps_of_a_gpu_keep_two_jobs_from_going_at_once(tmp_path, device, kind):
    run = toy_run(tmp_path, "schedule.kind=parallel", "schedule.threads=2")
    world = world_of(run)
    there: Any = SimpleNamespace(run=run, threads=2, base=SimpleNamespace(device=device))
    assert _why_in_turn(world) == ""
    there.run = drawn_by(run, kind)
    assert _why_in_turn(there) == ""
    there.run, there.base.device = drawn_by(run, "compiled"), "cuda"
    assert "while a GPU's steps are recorded" in _why_in_turn(there)


@pytest.mark.parametrize("begins", [0.0, 100.5])
def test_a_weight_that_rises_begins_above_nothing_and_within_its_limit(begins):
    with pytest.raises(ConfigError, match=rf"^\[method\]: kl_weight_target .* is {begins};"):
        AcftSettings.parse({"kl_weight": begins, "kl_weight_target": 0.9}, "method")
    AcftSettings.parse({"kl_weight": 100.0, "kl_weight_target": 0.9}, "method")
    AcftSettings.parse({"kl_weight": begins}, "method")


def test_a_loss_of_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"^\[method\]: ce_weight and kl_weight are both 0"):
        AcftSettings.parse({"ce_weight": 0.0, "kl_weight": 0.0}, "method")


def test_only_general_texts_measure_utility(tmp_path):
    world = world_of(toy_run(tmp_path))
    assert list(world.held_out) == [world.run.corpus[1].source]
    general = {d.document_id for d in world.held_out[world.run.corpus[1].source]["validation"]}
    assert general
    attribute_only = toy_run(
        tmp_path, corpus=[{"source": world.run.corpus[0].source, "domain": "attribute"}]
    )
    assert not world_of(attribute_only).held_out


def test_satisfying_responses_of_each_prompt_weigh_as_all_of_them(tmp_path):
    world = world_of(toy_run(tmp_path))
    found = drained(_an_oracle_round(world))
    ids = sorted({rollout.prompt_id for rollout in found.rollouts})
    satisfaction = [
        float(index % 2 == 0 or rollout.prompt_id != ids[0])
        for index, rollout in enumerate(found.rollouts)
    ]
    weighty = [dataclasses.replace(rollout, log_weight=0.5) for rollout in found.rollouts]
    changed = dataclasses.replace(found, rollouts=weighty, satisfaction=satisfaction)
    settings = AcftSettings.parse({"prefixes": ["guided"]}, "method")
    by_prompt: dict[str, float] = {}
    for document, weight in _sampled_documents(settings, changed):
        prompt = next(p for p in ids if f"-{p}-" in document.document_id)
        by_prompt[prompt] = by_prompt.get(prompt, 0.0) + weight
    count = {p: sum(r.prompt_id == p for r in weighty) for p in ids}
    each = sum(by_prompt.values()) / len(weighty)
    assert by_prompt == {p: pytest.approx(n * each) for p, n in count.items()}


@pytest.mark.parametrize("prefixes", [["guided"], ["on_policy"], ["on_policy", "guided"]])
@pytest.mark.parametrize("delta", [1.0, 0.999])
def test_own_prefixes_weigh_one_on_average_however_few_responses_satisfy(tmp_path, prefixes, delta):
    found = drained(_an_oracle_round(world_of(toy_run(tmp_path))))
    satisfaction = [float(index % 4 == 0) for index in range(len(found.rollouts))]
    changed = dataclasses.replace(found, satisfaction=satisfaction)
    settings = AcftSettings.parse({"prefixes": prefixes, "delta": delta}, "method")
    documents = _sampled_documents(settings, changed)
    weights = [weight for document, weight in documents for _ in _response(document)]
    assert sum(weights) / len(weights) == pytest.approx(1.0)


def test_responses_that_the_policy_would_not_give_are_no_prefixes(tmp_path):
    found = drained(_an_oracle_round(world_of(toy_run(tmp_path))))
    likely = found.rollouts[0].prompt_id
    unlikely = [
        dataclasses.replace(r, log_weight=-1000.0 if r.prompt_id == likely else -2000.0)
        for r in found.rollouts
    ]
    changed = dataclasses.replace(found, rollouts=unlikely)
    settings = AcftSettings.parse({"prefixes": ["on_policy"]}, "method")
    documents = _sampled_documents(settings, changed)
    assert len(documents) == sum(rollout.prompt_id == likely for rollout in unlikely)
    assert [weight for _, weight in documents] == pytest.approx([1.0] * len(documents))


def test_below_one_the_target_keeps_its_share_of_violating_responses(tmp_path):
    found = drained(_an_oracle_round(world_of(toy_run(tmp_path))))
    ids = sorted({rollout.prompt_id for rollout in found.rollouts})
    own = [i for i, rollout in enumerate(found.rollouts) if rollout.prompt_id == ids[0]]
    violating = own[len(own) // 2 :]
    satisfaction = [float(i not in violating) for i in range(len(found.rollouts))]
    changed = dataclasses.replace(found, satisfaction=satisfaction)
    settings = AcftSettings.parse({"prefixes": ["guided"], "delta": 0.9}, "method")
    weights = [
        w for d, w in _sampled_documents(settings, changed) if f"-{ids[0]}-" in d.document_id
    ]
    rate = (len(own) // 2) / len(own)
    assert len(weights) == len(own)
    expected = [0.9 / rate if satisfaction[i] else 0.1 / (1 - rate) for i in own]
    assert weights == pytest.approx(expected, rel=1e-5)  # p over itself is 1 but for rounding


@pytest.mark.parametrize("kind", ["sequential", "parallel"])
def test_a_round_keeps_the_policies_that_later_ones_read_and_no_older(kind):
    for plan, following in pairwise(rounds(kind, 5)):
        assert plan.keep == min(following.sample_from, following.anchor)


def _response(document):
    return document.token_ids[document.response_start :]


def _an_oracle_round(world):
    from acft.training.oracle_job import build_oracle, oracle_job

    found: OracleRound = yield from oracle_job(world, build_oracle(world), world.base, 1, [])
    return found


class Watched(LocalEngine):
    """Counts the responses that are asked for at once, within a set-up and outside."""

    def __init__(self):
        self.within, self.outside, self.is_set_up = [], [], False

    def draw(self, backbone, weights, request):
        asked = self.within if self.is_set_up else self.outside
        asked.append(len(request.prompts) * request.n)
        return super().draw(backbone, weights, request)

    @contextmanager
    def prepared(self, backbone):
        self.is_set_up = True
        yield
        self.is_set_up = False


@pytest.mark.parametrize(("batch_size", "at_once"), [(64, 128), (256, 256)])
def test_an_oracle_s_responses_are_drawn_in_one_set_up_and_in_whole_batches(
    tmp_path, batch_size, at_once
):
    run = toy_run(tmp_path, "oracle.rollouts_per_round=600", f"sampling.batch_size={batch_size}")
    world = world_of(run)
    world.base.engine = engine = Watched()
    drained(_an_oracle_round(world))
    assert sum(engine.within) == 632
    assert engine.outside == []
    assert at_once / 2 < max(engine.within) <= at_once


def test_own_responses_are_drawn_in_one_set_up_and_in_whole_batches(tmp_path):
    found = []
    for batch_size, at_once in ((64, 256), (1024, 600)):
        changes = ("oracle.rollouts_per_round=600", f"sampling.batch_size={batch_size}")
        world = world_of(toy_run(tmp_path, *changes))
        world.base.engine = engine = Watched()
        judged = drained(own_responses(world, world.base, 1))
        assert sum(engine.within) == 600
        assert engine.outside == []
        assert at_once / 2 < max(engine.within) <= at_once
        found.append({item.rollout.rollout_id: item.rollout.response_ids for item in judged})
    assert found[0] == found[1]
