"""Two processes that train one policy take the steps of a single one."""

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from acft.__main__ import main
from acft.eventlog import Entry, read_events
from acft.events import RoundFinished, Started
from acft.policy import base_policy
from acft.runs.directory import read_resolved, read_status
from acft.runs.launcher import create_here
from acft.runs.spec import parse_spec
from acft.runs.worker import run_worker
from acft.schema import RunPaths
from acft.settings import ModelSettings, RunSettings
from tests.equivalence.forked_pair import ForkedPairs, forked_pairs
from tests.equivalence.judged_parts import judged
from tests.equivalence.measured_parts import measured
from tests.fake_scorers import save_classifier
from tests.fakes import save_tiny_model
from tests.programs import output_of
from tests.tiny_run import check_same, report, tiny_settings, train
from tests.toy_runs import toy_run

pytestmark = pytest.mark.equivalence
SECONDS = 300
TOLERANCE = 1e-4
CHANGES = (
    "optimizer.batch_size=6",
    "oracle.rollouts_per_round=300",
    "oracle.replay_rounds=1",
    'method={name="acft", prefixes=["corpus", "on_policy"]}',
)
"""Three passes of texts and some of rollouts a step, three portions of responses: shares differ."""
KEPT = 'method={name="acft", prefixes=["corpus", "on_policy"], guidance_top_k=4}'
"""Of passes side by side that ask for no guidance, one has texts with it and the other none."""


FORKED = "forked"
LAUNCHERS = {
    "torchrun": ("torch.distributed.run", "--standalone", "--nproc-per-node=2"),
    # its multi-GPU launcher starts processes as torchrun does; without GPUs they talk through gloo
    "accelerate": (
        "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1",
        "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def pairs() -> Iterator[ForkedPairs]:
    with forked_pairs() as started:
        yield started


@pytest.fixture
def printed(request):
    """What two processes of a module print, forked where no launcher is named."""

    def run(module: str, *arguments: str, launcher: str = FORKED, **environment: str) -> str:
        everything = os.environ | {"CUDA_VISIBLE_DEVICES": ""} | environment
        if launcher == FORKED:
            pairs = request.getfixturevalue("pairs")
            return pairs.run(module, *arguments, environment=everything)
        command = [sys.executable, "-m", *LAUNCHERS[launcher], "--module", module, *arguments]
        return output_of(command, everything, SECONDS)

    return run


def launched(
    printed, config: Path, runs_dir: Path, cache: Path, launcher: str, *more: str
) -> RunPaths:
    """A run trained by two processes."""
    changes = [part for change in (*CHANGES, *more) for part in ("--set", change)]
    train = ("acft", "train", str(config), "--runs", str(runs_dir), *changes)
    printed(*train, launcher=launcher, ACFT_ASSETS=str(cache))
    (paths,) = [
        RunPaths(folder) for folder in runs_dir.iterdir() if (folder / "spec.toml").exists()
    ]
    return paths


@pytest.mark.parametrize(
    ("launcher", "method"),
    [
        ("torchrun", CHANGES[1]),
        pytest.param("accelerate", CHANGES[1], marks=pytest.mark.slow),
        pytest.param(FORKED, 'method={name="dpg"}', marks=pytest.mark.slow),
    ],
    ids=["torchrun", "accelerate", "dpg"],
)
def test_two_processes_give_the_trajectory_of_one(tmp_path, monkeypatch, printed, launcher, method):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    text = tiny_settings(tmp_path)
    (tmp_path / "tiny.toml").write_text(text)
    alone, code = train(text, tmp_path / "alone", *CHANGES, method)
    assert code == 0
    together = launched(
        printed, tmp_path / "tiny.toml", tmp_path / "together", tmp_path / "cache", launcher, method
    )
    check_same(alone, together, "adapter_model.safetensors")


def test_a_run_that_ended_early_goes_on_in_two_processes(tmp_path, monkeypatch, printed):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    text = tiny_settings(tmp_path)
    alone, code = train(text, tmp_path / "alone", *CHANGES)
    assert code == 0
    paths = create_here(tmp_path / "runs", parse_spec(text, CHANGES))

    def stop_between_rounds(entry: Entry) -> None:
        if isinstance(entry.event, RoundFinished):
            paths.stop_request.write_text("now")

    assert run_worker(paths, stop_between_rounds) == 0
    assert (read_status(paths).state, read_status(paths).round) == ("stopped", 1)
    resume = ("acft", "resume", paths.root.name, "--here", "--runs", str(tmp_path / "runs"))
    printed(*resume, ACFT_ASSETS=str(tmp_path / "cache"))
    assert read_status(paths).state == "finished"
    assert read_resolved(paths)["facts"]["processes"] == 2
    begun = [e.event for e in read_events(paths.events) if isinstance(e.event, Started)]
    assert [event.resumed_from_round for event in begun] == [0, 1]
    check_same(alone, paths, "adapter_model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_two_processes_measure_a_run_as_one(tmp_path, monkeypatch, printed, sharding):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    trained, _ = train(tiny_settings(tmp_path), tmp_path / "runs", *CHANGES)
    options = "method.options.perplexity={documents=4}"
    measure = ("evaluate", trained.root.name, "--suite", "perplexity", "--suite", "fluency",
               "--set", options, "--set", "method.options.fluency={prompts=5, continuations=2}",
               "--set", f'method.judge="{tmp_path / "model"}"',
               "--runs", str(tmp_path / "runs"))  # fmt: skip
    assert main([*measure]) == 0
    sharded = ("--set", f'model.sharding="{sharding}"')
    printed("acft", *measure, *sharded, ACFT_ASSETS=str(tmp_path / "cache"))
    alone, together = [
        RunPaths(folder)
        for folder in sorted((tmp_path / "runs").iterdir(), key=lambda f: f.stat().st_ctime)
        if (folder / "spec.toml").exists() and folder != trained.root
    ]
    expected, found = report(alone), report(together)
    assert expected.keys() == found.keys()
    assert [*found.values()] == pytest.approx([*expected.values()], rel=TOLERANCE)


@pytest.mark.parametrize(
    ("kind", "weights", "lr", "method", "launcher"),
    [
        ("lora", "adapter_model.safetensors", "1e-2", KEPT, FORKED),
        pytest.param(
            "lora",
            "adapter_model.safetensors",
            "1e-2",
            'method={name="sft"}',
            FORKED,
            marks=pytest.mark.slow,
        ),
        ("full", "model.safetensors", "1e-3", CHANGES[1], FORKED),
        pytest.param(
            "lora",
            "adapter_model.safetensors",
            "1e-2",
            CHANGES[1],
            "accelerate",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["kept guidance", "sft", "full", "accelerate"],
)
def test_two_processes_with_half_the_layers_each_give_the_trajectory_of_one(
    tmp_path, monkeypatch, printed, kind, weights, lr, method, launcher
):
    changes = (f'adapter.kind="{kind}"', f"optimizer.lr={lr}", method)
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    text = tiny_settings(tmp_path)
    (tmp_path / "tiny.toml").write_text(text)
    alone, code = train(text, tmp_path / "alone", *CHANGES, *changes)
    assert code == 0
    together = launched(
        printed, tmp_path / "tiny.toml", tmp_path / "together", tmp_path / "cache", launcher,
        *changes, 'model.sharding="fsdp"',
    )  # fmt: skip
    check_same(alone, together, weights)


@pytest.mark.slow
def test_weights_in_parts_and_their_moments_go_on_from_a_checkpoint_to_the_bit(tmp_path, printed):
    toy_run(tmp_path)
    said = printed(
        "tests.equivalence.resumed_parts", str(tmp_path), ACFT_ASSETS=str(tmp_path / "cache")
    )
    assert re.findall(r"differs by (\S+)", said) == ["0.0"]


def test_each_process_holds_half_of_the_layers_once_where_no_copy_changes_them(tmp_path, printed):
    save_tiny_model(tmp_path / "model")
    copies = {"lora": 1, "full": 3}
    said = printed("tests.equivalence.held_parts", str(tmp_path / "model"), *copies)
    held = re.findall(r"(\w+): holds (\d+)", said)
    model = base_policy(
        RunSettings(model=ModelSettings(name=str(tmp_path / "model")), device="cpu")
    ).backbone.model
    layers = [m for n, m in model.named_modules() if type(m) is nn.Linear and n != "lm_head"]
    whole = sum(p.numel() for layer in layers for p in layer.parameters())
    for kind, n_copies in copies.items():
        parts = [int(number) for name, number in held if name == kind]
        assert len(parts) == 2
        assert sum(parts) == n_copies * whole
        assert max(parts) < 0.6 * sum(parts)


def test_each_process_asks_about_its_share_and_the_bill_is_that_of_a_single_one(
    tmp_path, monkeypatch, printed
):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    save_classifier(tmp_path / "scorer", ["fine", "rude"])
    alone = judged(tmp_path)
    said = printed(
        "tests.equivalence.judged_parts", str(tmp_path), ACFT_ASSETS=str(tmp_path / "cache")
    )
    found = sorted(map(json.loads, re.findall("{.*}", said)), key=lambda one: one["rank"])
    assert sum(one["asked"] for one in found) == alone["asked"]
    assert max(one["asked"] for one in found) < 0.7 * alone["asked"]
    assert found[0]["billed"] == alone["billed"]
    for one in found:
        assert one["learned"] == pytest.approx(alone["learned"], abs=1e-4)


@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_each_process_measures_its_share_and_all_know_what_one_alone_would(
    tmp_path, printed, sharding
):
    save_tiny_model(tmp_path / "model")
    alone = measured(tmp_path / "model", "none")
    said = printed("tests.equivalence.measured_parts", str(tmp_path / "model"), sharding)
    found = sorted(map(json.loads, re.findall("{.*}", said)), key=lambda one: one["rank"])
    # five prompts are shared; whoever has no part of the one alone draws it as well
    assert [one["drawn"] for one in found] == [3 + 1, 2 + 1]
    assert sum(one["read"] for one in found) == alone["read"] == 9
    assert min(one["read"] for one in found) > 0
    for one in found:
        assert one["responses"] == json.loads(json.dumps(alone["responses"]))
        assert one["nll"] == pytest.approx(alone["nll"], rel=TOLERANCE)


def test_a_stop_at_once_ends_all_processes_after_the_portion_epoch_or_step(tmp_path, printed):
    text = tiny_settings(tmp_path).replace("rollouts_per_round = 48", "rollouts_per_round = 400")
    (tmp_path / "tiny.toml").write_text(text)
    said = printed(
        "tests.equivalence.stopped_parts", str(tmp_path / "tiny.toml"), str(tmp_path / "runs"),
        "sample_oracle", "fit_oracle", "fit_policy", ACFT_ASSETS=str(tmp_path / "cache"),
    )  # fmt: skip
    assert re.findall("stopped in step (.+), (.+), with 0", said) == [
        ("0", "sample_oracle 0 of 400"),
        ("0", "fit_oracle 1 of 2"),
        ("1", "fit_policy 1 of 2"),
    ]


@pytest.mark.parametrize("way", ["request", "interrupt"])
def test_a_stopped_run_leaves_its_launcher_without_a_failure_in_either_process(
    tmp_path, printed, way
):
    (tmp_path / "tiny.toml").write_text(tiny_settings(tmp_path))
    printed(
        "tests.equivalence.left_parts", way, str(tmp_path / "tiny.toml"), str(tmp_path / "runs"),
        ACFT_ASSETS=str(tmp_path / "cache"),
    )  # fmt: skip
    (spec,) = (tmp_path / "runs").glob("*/spec.toml")
    status = read_status(RunPaths(spec.parent))
    assert (status.state, status.message, status.step) == ("stopped", "", 1)


@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_steps_of_two_processes_are_measured_and_told_once(tmp_path, printed, sharding):
    said = printed(
        "benchmarks.steps", "--quick", "--device", "cpu", "--sharding", sharding,
        ACFT_ASSETS=str(tmp_path),
    )  # fmt: skip
    assert said.count("tiny on cpu, 2 processes of ") == 1
    assert len(re.findall(r"^acft +\S+ +\d+ ", said, re.MULTILINE)) == 1
    assert "bars" not in said


def test_weights_for_a_server_are_whole_in_all_processes_until_the_last_one_has_done(
    tmp_path, printed
):
    save_tiny_model(tmp_path / "model")
    said = printed(
        "tests.equivalence.published_parts", str(tmp_path / "model"), str(tmp_path / "weights")
    )
    whole = "adapter_config.json adapter_model.safetensors"
    assert re.findall("published (.+)", said) == [whole, whole]
    assert re.findall("used (.+)", said) == [whole]
    assert not list((tmp_path / "weights").iterdir())
