"""Measurements of speed run on a tiny model so that they cannot rot; the figures mean nothing."""

import pytest
import torch

from acft import chunked
from acft.engines import compiled
from acft.engines.compiled import CompiledEngine
from acft.methods.acft import AcftSettings, as_set
from acft.runs.spec import load_spec
from acft.settings import SamplingSettings
from benchmarks import memory, parallel, rollouts, steps, worlds


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path))


def test_every_kind_of_step_is_measured_on_the_same_tokens(capsys):
    steps.main(["--quick"])
    printed = capsys.readouterr().out
    for kind in steps.rules(steps.random_world("tiny", "cpu")):
        assert f"\n{kind} " in printed
    assert "tiny on cpu" in printed
    assert "a step" in printed.splitlines()[-1] or "trl is not installed" in printed


def test_each_process_has_its_gpu_before_a_model_is_made(monkeypatch):
    class MadeError(Exception):
        pass

    def no_device(*_):
        raise MadeError

    asked, ranks = [], worlds.ranks
    monkeypatch.setattr(worlds, "ranks", lambda: asked.append(1) or ranks())
    monkeypatch.setattr(worlds, "resolve_device", no_device)
    with pytest.raises(MadeError):
        worlds.random_backbone("tiny")
    assert asked


def test_the_recipe_that_is_timed_is_the_quickstart_s_own():
    found = steps.rules(steps.random_world("tiny", "cpu"))[steps.RECIPE]
    method = load_spec(steps.QUICKSTART).method_settings
    assert found is not None
    assert isinstance(method, AcftSettings)
    assert found.kl_weight == method.kl_weight
    assert (found.anchor is None) == (method.anchor == "current")
    assert found == as_set(found, method)


def test_the_recipe_is_judged_as_well_as_plain_acft():
    world = steps.random_world("tiny", "cpu")
    fast = dict.fromkeys(["sft", *steps.JUDGED], (1.0, 1.0))
    assert steps.report(world, fast, None)[1]
    for kind in steps.JUDGED:
        for slow in ((1.6, 1.0), (1.0, 2.1)):
            lines, is_met = steps.report(world, fast | {kind: slow}, None)
            assert not is_met
            assert lines[-1].endswith("MISSED")


def test_a_profile_names_operations(capsys):
    steps.main(["--quick", "--profile", "--tokens", "150", "--checkpointing"])
    assert "aten::" in capsys.readouterr().out


def test_memory_is_measured_in_processes_of_their_own(capsys):
    assert memory.main(["--quick", "--device", "cpu"]) == 0
    assert "MiB with the KL" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_chunked_values_and_gradients_are_those_of_float64(dtype):
    assert max(memory.errors(500, "cpu", dtype).values()) < 1e-3


def test_an_error_of_the_kl_s_gradient_is_not_hidden_by_the_cross_entropy(monkeypatch):
    right = chunked._kl_chunk

    def off_by_a_hundredth(logprobs, q_logprobs, nll_weights, kl_weights, kl):
        return right(logprobs, q_logprobs, nll_weights, 1.01 * kl_weights, kl)

    monkeypatch.setattr(chunked, "_kl_chunk", off_by_a_hundredth)
    found = memory.errors(500, "cpu", torch.float32)
    assert found["gradient error"] == pytest.approx(0.01, rel=1e-3)


def test_samplers_draw_as_many_texts_and_are_compared(capsys):
    rollouts.main(["--quick"])
    printed = capsys.readouterr().out
    assert printed.count(" tokens/s ") == 4
    assert "generate, unmerged LoRA" in printed


def test_a_round_sets_up_compiled_steps_once_for_all_its_draws(monkeypatch):
    made, drawn = [], []
    make, draw = compiled.CompiledModel, compiled.draw

    def counted_make(*arguments):
        made.append(len(drawn))
        return make(*arguments)

    def counted_draw(*arguments, **named):
        drawn.append(1)
        return draw(*arguments, **named)

    monkeypatch.setattr(compiled, "CompiledModel", counted_make)
    monkeypatch.setattr(compiled, "draw", counted_draw)
    subject = rollouts.contest("tiny", "cpu", 8, SamplingSettings(horizon=4, batch_size=4))
    repeats = 2
    rollouts.compiled_seconds(subject, CompiledEngine("eager"), repeats)
    assert len(drawn) == 2 * (1 + repeats)
    assert len(made) == 1 + repeats


def test_what_comes_before_the_first_compiled_draw_is_a_figure_of_its_own(monkeypatch, capsys):
    found = rollouts.CompiledSeconds(draw=0.5, round=1.25, compiler=40.0)
    monkeypatch.setattr(rollouts, "compiled_seconds", lambda *_: found)
    rollouts.main(["--quick", "--compiled", "--horizon", "5"])
    printed = capsys.readouterr().out
    assert "sampler, compiled                   80 tokens/s" in printed
    assert "1.25 s of set-up in a round" in printed
    assert "40.0 s once for the compiler" in printed


def test_both_schedules_are_timed_and_the_parallel_one_gives_equal_numbers_in_any_order(capsys):
    assert parallel.main(["--quick", "--threads", "2"]) in (0, 1)
    printed = capsys.readouterr().out
    for name in ("sequential", "in turn", "at once", "formula"):
        assert f"\n{name} " in printed
