"""What the paper's baselines do with responses: pairs, parts, weights, groups, control texts."""

import copy
from collections import Counter
from dataclasses import replace

import pytest
import torch

from acft.data import collate
from acft.decoding.base import DecodedJudge
from acft.errors import ConfigError, DataError, ModelError
from acft.events import BestCheckpoint, Evaluated, Note, Scalars
from acft.likelihood import BATCH_TOKENS_CPU, document_likelihoods
from acft.methods.base import METHODS
from acft.methods.dpg import target_weights
from acft.methods.dpo import pairs_of
from acft.methods.quark import QuarkSettings, levels, sorted_responses
from acft.methods.rl import RlSettings, responses_per_step
from acft.objective import entropy, kl_divergence
from acft.policy import Policy
from acft.settings import SamplingSettings
from acft.training.concurrency import emitted
from acft.training.controlled import ControlledPolicy
from acft.training.optimization import PolicyOptimizer
from acft.training.responses import Judged, own_responses, pieces, portions
from acft.training.weighted_fit import BasePull, Weighted, weighted_fit
from acft.types import Document, Prompt, Rollout
from tests.bench import Power
from tests.fakes import save_tiny_model
from tests.toy_runs import ALWAYS, drained, largest_difference, toy_run, trained, world_of

NO_C = {"kind": "pattern", "pattern": r"c", "must": "not_occur"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))


def judged(prompt: str, response: int, satisfaction: float) -> Judged:
    rollout = Rollout(f"{prompt}-{response}", prompt, prompt, "", (0,), (response,), (-1.0,), 0)
    return Judged(rollout, satisfaction)


# --- own responses -------------------------------------------------------------------------------


@pytest.mark.parametrize(("wanted", "each"), [(7, 1), (20, 1), (7, 3), (2, 8), (23, 4)])
def test_exactly_the_wanted_number_is_drawn_and_prompts_get_their_share(wanted, each):
    prompts = [Prompt(str(i), "", "train") for i in range(10)]
    chosen = portions(prompts, wanted, each, seed=1)
    counts = {p.prompt_id: n for some, n in chosen for p in some}
    assert sum(counts.values()) == wanted
    assert max(counts.values()) - min(counts.values()) <= 1
    assert min(counts.values()) >= min(each, wanted)


@pytest.mark.parametrize(("n", "sizes"), [(1, [125, 125]), (2, [62, 63, 62, 63]), (200, [1] * 250)])
def test_no_piece_of_work_is_a_small_rest(n, sizes):
    prompts = [Prompt(str(i), "", "train") for i in range(250)]
    found = pieces([(prompts, n)], at_once=128)
    assert [len(some) for some, _ in found] == sizes
    assert [prompt for some, _ in found for prompt in some] == prompts


def test_other_prompts_have_their_turn_in_other_rounds(tmp_path):
    world = world_of(toy_run(tmp_path, "oracle.rollouts_per_round=8"))
    drawn = [drained(own_responses(world, world.base, index, each=4)) for index in (1, 2, 3)]
    assert len({frozenset(item.rollout.prompt_id for item in items) for items in drawn}) > 1


def test_the_base_reads_a_round_s_responses_some_at_a_time(tmp_path, monkeypatch):
    run = toy_run(tmp_path, "oracle.rollouts_per_round=400", "sampling.batch_size=512")
    world = world_of(run)
    items = drained(own_responses(world, world.base, 1))
    read, plain = [], Policy.token_logprobs

    def watched(policy, batch):
        read.append(batch.token_ids.numel())
        return plain(policy, batch)

    monkeypatch.setattr(Policy, "token_logprobs", watched)
    assert len(target_weights(world, items)) == len(items) == 400
    assert max(read) <= BATCH_TOKENS_CPU < sum(read)


# --- dpo -----------------------------------------------------------------------------------------


def test_pairs_are_of_one_prompt_and_prefer_what_satisfies():
    items = [
        judged("x", 1, 1.0), judged("x", 2, 0.9), judged("x", 3, 0.0), judged("x", 4, 0.2),
        judged("x", 5, 0.5), judged("y", 6, 1.0), judged("z", 7, 0.0),
    ]  # fmt: skip
    pairs = pairs_of(items)
    assert [(p.chosen_ids, p.rejected_ids) for p in pairs] == [
        ((1,), (3,)), ((2,), (4,)), ((1,), (5,)),
    ]  # fmt: skip


def test_without_a_pair_in_the_first_round_it_says_what_to_raise(tmp_path):
    with pytest.raises(DataError, match="responses_per_prompt"):
        trained(tmp_path / "run", toy_run(tmp_path, constraint=[ALWAYS]), {"name": "dpo"})


@pytest.mark.parametrize(
    "method",
    [
        {"name": "dpo"}, {"name": "rl"}, {"name": "rl", "reward": "verdict"},
        {"name": "dapt"}, {"name": "dpg"}, {"name": "gflownet"}, {"name": "etpo"},
    ],
    ids=lambda method: "-".join(method.values()),
)  # fmt: skip
def test_satisfaction_rises(tmp_path, method):
    run = toy_run(
        tmp_path, "optimizer.steps_per_round=10", "oracle.rollouts_per_round=320",
        "evaluation.validation_continuations=40", constraint=[NO_C],
    )  # fmt: skip
    run = replace_corpus(run)
    outputs = trained(tmp_path / "run", run, method).outputs
    by_round = {
        output.round: output.values["rollout/satisfaction"]
        for output in outputs
        if isinstance(output, Scalars) and "rollout/satisfaction" in output.values
    }
    assert by_round[0] < 0.6
    assert by_round[3] > by_round[0] + 0.25


@pytest.mark.parametrize(("method", "config"), [("dpo", "DPOConfig"), ("rl", "RLOOConfig")])
def test_a_process_that_sees_several_gpus_trains_on_one(tmp_path, monkeypatch, method, config):
    from acft.backbone import trl_trainers

    class OnFourGpus(getattr(trl_trainers, config)):
        """What the arguments become where transformers finds four."""

        def __post_init__(self):
            super().__post_init__()
            self._n_gpu = 4

    monkeypatch.setattr(trl_trainers, config, OnFourGpus)
    run = toy_run(tmp_path, "oracle.rollouts_per_round=320", "schedule.rounds=1", constraint=[NO_C])
    steps = trained(tmp_path / "run", run, {"name": method}).scalars("policy/loss")
    assert len(steps) == run.optimizer.steps_per_round


def replace_corpus(run):
    """Without texts that teach the opposite."""
    return run.model_copy(update={"corpus": run.corpus[:1]})


# --- rl ------------------------------------------------------------------------------------------


def test_steps_draw_whole_groups_within_the_budget(tmp_path):
    run = toy_run(tmp_path, "oracle.rollouts_per_round=50", "optimizer.steps_per_round=3")
    assert responses_per_step(RlSettings(), run) == 16
    assert responses_per_step(RlSettings(group=16), run) == 16


def test_a_budget_below_one_group_a_step_is_an_error_that_names_the_least(tmp_path):
    run = toy_run(tmp_path, "oracle.rollouts_per_round=11", "optimizer.steps_per_round=3")
    with pytest.raises(ConfigError, match="at least 12"):
        trained(tmp_path / "run", run, {"name": "rl"})


def test_a_group_larger_than_all_prompts_still_has_different_responses(tmp_path):
    run = toy_run(tmp_path, "oracle.rollouts_per_round=320", "optimizer.steps_per_round=2",
                  "prompts.limit=2", "schedule.rounds=1", "sampling.horizon=8")  # fmt: skip
    rows = trained(tmp_path / "run", run, {"name": "rl", "group": 20}).rows("rollouts")
    rows = [row for row in rows if row["purpose"] == "train"]
    assert len(rows) == len({row["rollout_id"] for row in rows}) == 320
    drawn = Counter((row["subject"], row["policy_version"]) for row in rows)
    assert drawn == {("base", 0): 160, ("policy", 1): 160}, "the first step is drawn by the base"
    assert len({row["response_text"] for row in rows}) > 100


# --- quark ---------------------------------------------------------------------------------------


def test_parts_are_equal_and_the_best_are_in_the_last():
    assert levels([0.1, 0.9, 0.3, 0.5, 0.7], 5) == [1, 5, 2, 3, 4]
    assert levels([0.0, 1.0, 1.0, 0.0], 5) == [3, 5, 5, 3]
    assert levels([0.5], 4) == [4]


@pytest.mark.parametrize("control", ["good\n", "{quality}", "{}", "{level.part}", "{level[0]}"])
def test_a_control_text_must_tell_the_parts_apart(control):
    with pytest.raises(ConfigError, match="control"):
        QuarkSettings.parse({"control": control}, "method")


def test_a_lost_pool_is_a_clear_error(tmp_path):
    run = toy_run(tmp_path, "schedule.rounds=2")
    first = trained(tmp_path / "a", run, {"name": "quark"}, stop_after_checkpoint=1)
    (first.checkpoints[1] / "pool.json").unlink()
    with pytest.raises(ModelError, match="pool of responses"):
        trained(tmp_path / "b", run, {"name": "quark"}, resume=(first.checkpoints[1], 1))


@pytest.fixture
def words(tmp_path):
    """A world whose tokenizer reads every text."""
    save_tiny_model(tmp_path / "words")
    (tmp_path / "prompts.txt").write_text("\n".join(f"Number {n} is" for n in range(60)))
    run = toy_run(
        tmp_path,
        model={"name": str(tmp_path / "words")},
        prompts={"source": str(tmp_path / "prompts.txt")},
        constraint=[ALWAYS],
        corpus=[{"source": "base_rollouts", "domain": "attribute", "max_documents": 4}],
    )
    return world_of(run)


def test_nobody_outside_sees_the_control_text(words):
    control = "quality 5 of 5\n"
    prompts = words.prompts["train"][:3]
    sampling = SamplingSettings(horizon=4)
    hidden = ControlledPolicy.of(words.base, control).sample(prompts, 2, sampling, 1).rollouts
    texts = [replace(prompt, text=control + prompt.text) for prompt in prompts]
    open_ = words.base.sample(texts, 2, sampling, 1).rollouts
    assert [r.response_ids for r in hidden] == [r.response_ids for r in open_]
    assert [r.prompt_text for r in hidden] == [p.text for p in prompts for _ in range(2)]
    plain = words.base.sample(prompts, 2, sampling, 1).rollouts
    assert [r.prompt_ids for r in hidden] == [r.prompt_ids for r in plain]


def test_likelihoods_behind_the_control_text_are_those_it_was_drawn_with(words):
    tokenizer = copy.deepcopy(words.base.backbone.tokenizer)
    # control and prompt have other tokens together than apart
    tokenizer.add_tokens(["5: Number"])
    base = replace(words.base, backbone=replace(words.base.backbone, tokenizer=tokenizer))
    policy = ControlledPolicy.of(base, "quality 5: ")
    (rollout,) = policy.sample(
        words.prompts["train"][:1], 1, SamplingSettings(horizon=4), 1
    ).rollouts
    batch = collate([Judged(rollout, 1.0).document], 0, 4)
    found = policy.token_logprobs(batch)[batch.response_mask[:, 1:]]
    assert found.tolist() == pytest.approx(list(rollout.response_logprobs), abs=1e-4)


def test_texts_as_long_as_the_context_leave_room_for_the_control_text(words):
    policy = ControlledPolicy.of(words.base, "quality 5: ")
    n_control = words.base.context_length - policy.context_length
    assert n_control == len(words.base.backbone.tokenizer.encode("quality 5: "))
    text = Document("d", "", "a word after the other " * words.base.context_length, "general")
    (whole,), (behind,) = (
        document_likelihoods(judge, [text], max_tokens=10**6) for judge in (words.base, policy)
    )
    assert whole.n_tokens - behind.n_tokens == n_control


def test_a_policy_without_a_control_text_is_itself(words):
    assert ControlledPolicy.of(words.base, "") is words.base


def test_a_decoder_is_told_the_prompt_that_it_would_have_drawn_behind(words):
    policy = ControlledPolicy.of(words.base, "quality 5: ")
    prompts, told = words.prompts["train"][:2], []

    class Listening(Power):
        def start(self, prompts, prompt_ids):
            told.append((list(prompts), [list(ids) for ids in prompt_ids]))
            return super().start(prompts, prompt_ids)

    judge = DecodedJudge(policy, Listening())
    rollouts = judge.sample(prompts, 1, SamplingSettings(horizon=3, batch_size=1), 1).rollouts
    drawn, told[:] = [*told], []
    for rollout in rollouts:
        judge.read(collate([Judged(rollout, 1.0).document], 0, 3))
    assert told == drawn


def test_the_base_policy_sees_the_response_without_the_control_text(words):
    drawn = drained(own_responses(words, words.base, 1))
    for item, weighted in zip(drawn, sorted_responses(words, QuarkSettings(), drawn), strict=True):
        text = words.decode(weighted.document.token_ids[: weighted.document.response_start])
        assert text == "quality 5 of 5\n" + item.rollout.prompt_text
        assert weighted.seen_by_base == item.document
        assert weighted.document.n_loss_tokens == len(item.rollout.response_ids)


# --- weighted steps ------------------------------------------------------------------------------


def test_one_kl_stands_for_the_pull_to_the_base_and_for_the_entropy():
    generator = torch.Generator().manual_seed(0)
    base, policy, other = torch.randn(3, 5, 7, generator=generator).double().log_softmax(-1)
    pull = BasePull(kl=0.05, entropy=0.06)
    target = (pull.exponent * base).log_softmax(-1)

    def both(p):
        return 0.05 * kl_divergence(p, base) - 0.06 * entropy(p)

    one = pull.weight * (kl_divergence(policy, target) - kl_divergence(other, target))
    assert torch.allclose(both(policy) - both(other), one)


def response_logprobs(policy, document):
    """Next-token log-probabilities where the response is predicted."""
    logprobs = policy.next_logprobs(collate([document], 0, 4))[0].detach()
    return logprobs[document.response_start - 1 : -1]


def test_a_step_is_the_weighted_likelihood_and_the_kl_of_each_response_token(words):
    drawn = drained(own_responses(words, words.base, 1))[:8]
    pull = BasePull(kl=0.05, entropy=0.06)
    responses = sorted_responses(words, QuarkSettings(), drawn)
    responses = [replace(item, weight=1.0 + index) for index, item in enumerate(responses)]
    nlls, kls, weighted = [], [], 0.0
    for item, plain in zip(responses, drawn, strict=True):
        p = response_logprobs(words.base, item.document)
        base = response_logprobs(words.base, plain.document)
        chosen = p.gather(-1, torch.tensor(plain.rollout.response_ids)[:, None])
        nlls += (-chosen[:, 0]).tolist()
        weighted -= item.weight * float(chosen.sum())
        kls += kl_divergence(p, (pull.exponent * base).log_softmax(-1)).tolist()
    optimizer = PolicyOptimizer(words.policy.parameters(), words.run.optimizer, 3)
    said = next(weighted_fit(words, optimizer, responses, 1, pull=pull))
    assert isinstance(said, Scalars)
    assert said.values["policy/ce"] == pytest.approx(sum(nlls) / len(nlls), rel=1e-5)
    assert min(kls) > 1e-3
    kl = said.values["policy/kl_policy_target"]
    assert kl == pytest.approx(sum(kls) / len(kls), rel=1e-4)
    expected = (weighted + pull.weight * sum(kls)) / len(nlls)
    assert said.values["policy/loss"] == pytest.approx(expected, rel=1e-5)


def test_heavier_responses_become_likelier(tmp_path):
    world = world_of(toy_run(tmp_path, "optimizer.steps_per_round=20"))
    items = drained(own_responses(world, world.base, 1))[:8]
    responses = [Weighted(item.document, float(i < 4)) for i, item in enumerate(items)]
    optimizer = PolicyOptimizer(world.policy.parameters(), world.run.optimizer, 20)
    drained(weighted_fit(world, optimizer, responses, 1))
    batch = collate([item.document for item in items[:4]], 0, world.horizon)
    mask = batch.response_mask[:, 1:]
    before, after = (p.token_logprobs(batch)[mask].sum() for p in (world.base, world.policy))
    assert after > before + 1.0


@pytest.mark.parametrize("name", ["dpg", "etpo", "gflownet"])
def test_dropout_depends_on_the_step_alone(tmp_path, name):
    run = toy_run(tmp_path, "adapter.dropout=0.3", "schedule.rounds=2")
    whole = trained(tmp_path / "a", run, {"name": name})
    torch.rand(5)  # another process is at another place of torch's own random numbers
    again = trained(tmp_path / "b", run, {"name": name}, resume=(whole.checkpoints[1], 1))
    assert largest_difference(again.weights(2), whole.weights(2)) == 0.0


def test_trl_trains_without_dropout_and_says_so(tmp_path):
    run = toy_run(tmp_path, "adapter.dropout=0.3", "schedule.rounds=1")
    outputs = trained(tmp_path / "a", run, {"name": "rl"}).outputs
    notes = [output.text for output in outputs if isinstance(output, Note)]
    assert notes == ["[adapter] dropout = 0.3: TRL trains without dropout"]


# --- nado decoding -------------------------------------------------------------------------------


def test_an_automatic_strength_aims_at_the_delta_that_decoding_uses(tmp_path):
    """The base satisfies more than a tenth, so that nothing has to pull harder than at first."""
    run = toy_run(tmp_path, "oracle.strength=auto", "schedule.rounds=1", constraint=[NO_C])
    found = {
        delta: trained(tmp_path / str(delta), run, {"name": "nado_decoding", "delta": delta})
        for delta in (0.1, 1.0)
    }
    strengths = {d: result.scalars("oracle/strength")[0][2] for d, result in found.items()}
    assert strengths[0.1] == 1.0 < strengths[1.0]
    tried = [result.scalars("oracle/guided_satisfaction") for result in found.values()]
    assert tried[0] != tried[1], "the soft closed form is what is estimated"


def test_fine_tuned_weights_are_guided_as_they_are_without_guidance(tmp_path):
    run = toy_run(tmp_path, "evaluation.test_prompts=4", "evaluation.continuations=2")
    tuned = {"name": "nado_decoding", "start": "sft"}
    whole = trained(tmp_path / "nado", run, tuned)
    plain = trained(tmp_path / "sft", run, {"name": "sft"})
    for index in (1, 2, 3):
        expected = plain.weights(index)
        of_policy = {name: w for name, w in whole.weights(index).items() if name in expected}
        assert largest_difference(of_policy, expected) == 0.0
    oracles = [r for r in whole.rows("rollouts") if r["purpose"] == "oracle"]
    assert {(r["round"], r["policy_version"]) for r in oracles} == {(1, 1), (2, 2), (3, 3)}
    best = [output for output in whole.outputs if isinstance(output, BestCheckpoint)]
    assert best[-1].round == 3, "its oracle has learned from most"
    resumed = trained(tmp_path / "resumed", run, tuned, resume=(whole.checkpoints[1], 1))
    assert evaluated_of(resumed) == evaluated_of(whole)
    assert any("tuned policy with decoder 'guided'" in text for text in notes_of(whole))


def test_a_guided_policy_is_said_to_read_texts_as_it_draws_them(tmp_path):
    run = toy_run(tmp_path, "evaluation.test_prompts=4", "oracle.strength=8")
    values = evaluated_of(trained(tmp_path / "a", run, {"name": "nado_decoding"}))
    of_base = [metric for who, metric in values if who == "base" and "perplexity" in metric]
    assert of_base
    assert all(values["guided", metric] != values["base", metric] for metric in of_base)


def evaluated_of(result) -> dict[tuple[str, str], float | None]:
    found = [output for output in result.outputs if isinstance(output, Evaluated)]
    return {(event.subject, event.metric): event.value for event in found}


def notes_of(result) -> list[str]:
    return [output.text for output in result.outputs if isinstance(output, Note)]


# --- work that cannot yield ----------------------------------------------------------------------


def test_outputs_come_in_order_and_an_error_comes_after_them():
    def work(emit):
        emit(Note("info", "one"))
        raise ModelError("two")

    stream = emitted(work)
    assert next(stream) == Note("info", "one")
    with pytest.raises(ModelError, match="two"):
        next(stream)


def test_work_ends_when_nobody_reads_it():
    ended = []

    def work(emit):
        try:
            while True:
                emit(Note("info", "again"))
        finally:
            ended.append(True)

    stream = emitted(work)
    next(stream)
    stream.close()
    assert ended == [True]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("filtered_sft", {"threshold": 1.0}), ("dapt", {"share": 0.0}), ("dpo", {"beta": 0.0}),
        ("dpo", {"responses_per_prompt": 1}), ("rl", {"group": 1}), ("rl", {"kl_weight": -1.0}),
        ("quark", {"quantiles": 1}), ("nado_decoding", {"delta": 0.0}),
        ("nado_decoding", {"start": "rl"}), ("rl", {"reward": "loud"}),
        ("dpg", {"responses_per_prompt": 0}), ("gflownet", {"floor": 0.0}),
        ("etpo", {"floor": 1.0}), ("etpo", {"trace": 1.5}), ("etpo", {"backups": 0}),
    ],
)  # fmt: skip
def test_impossible_settings_are_named_with_what_is_allowed(name, wrong):
    with pytest.raises(ConfigError, match=f"method.*{next(iter(wrong))}"):
        METHODS.get(name).settings_type.parse(wrong, "method")


def test_none_of_the_responses_satisfies_and_it_says_so(tmp_path):
    never = {"kind": "length", "minimum": 1000}
    for name in ("dapt", "dpg"):
        with pytest.raises(DataError, match="none of 64 responses of round 1"):
            trained(tmp_path / name, toy_run(tmp_path, constraint=[never]), {"name": name})
