import dataclasses
import errno
import json
import shutil
import subprocess
import sys
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open

from acft.__main__ import main
from acft.decoding.processor import OracleLogitsProcessor
from acft.errors import AcftError, ConfigError, DataError, RunError
from acft.eventlog import read_events
from acft.events import Evaluated, Note
from acft.export import card_facts, export_run, export_within
from acft.inference import exporting
from acft.inference.server import Session
from acft.model_card import Base, _rows, model_card
from acft.runs.directory import read_status, write_status
from acft.runs.exports import Export, exports
from acft.runs.launcher import create_here
from acft.runs.measure import measurement
from acft.runs.restore import open_run
from acft.runs.worker import run_worker
from acft.schema import RunPaths
from tests.tiny_run import tiny_settings, train

TEXT = "See the rain in the year 7"

PLAIN = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, base, dtype, out = sys.argv[1:]
if base:
    from peft import PeftModel
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
else:
    model = AutoModelForCausalLM.from_pretrained(folder)
ids = AutoTokenizer.from_pretrained(folder)({text!r}, return_tensors="pt")["input_ids"]
if dtype:
    model.to(getattr(torch, dtype))
with torch.no_grad():
    torch.save(model.eval()(ids).logits.float(), out)
assert not any(name.split(".")[0] == "acft" for name in sys.modules)
"""


def logits_elsewhere(folder, tmp_path, base="", dtype=""):
    """Logits in a process that knows transformers and peft only."""
    out = tmp_path / "logits.pt"
    code = PLAIN.format(text=TEXT)
    subprocess.run(
        [sys.executable, "-P", "-c", code, str(folder), str(base), dtype, str(out)],
        check=True, cwd=tmp_path, capture_output=True,
    )  # fmt: skip
    return torch.load(out, weights_only=True)


def logits_here(policy):
    ids = policy.backbone.tokenizer(TEXT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return policy.backbone.model(ids).logits.float()


def test_plain_transformers_give_the_tuned_logits(tiny_run, tmp_path):
    folder = export_run(tiny_run.root, tmp_path / "out")
    run = open_run(tiny_run.root)
    elsewhere = logits_elsewhere(folder, tmp_path)
    torch.testing.assert_close(elsewhere, logits_here(run.tuned), atol=1e-5, rtol=0)
    assert (elsewhere - logits_here(run.base)).abs().max() > 1e-2


def test_peft_gives_the_tuned_logits_from_the_adapter(tiny_run, session_folder, tmp_path):
    folder = export_run(tiny_run.root, tmp_path / "out", merge=False)
    # the adapter is merged here and not there: other products, so both are computed in float64
    elsewhere = logits_elsewhere(folder, tmp_path, session_folder / "model", "float64")
    run = open_run(tiny_run.root)
    run.tuned.backbone.model.double()
    torch.testing.assert_close(elsewhere, logits_here(run.tuned), atol=1e-5, rtol=0)


def test_tied_embeddings_are_written_once_and_stay_tied(tiny_run, tmp_path):
    from transformers import AutoModelForCausalLM

    folder = export_run(tiny_run.root, tmp_path / "out")
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118 - no dictionary
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.lm_head.weight is model.get_input_embeddings().weight


@pytest.fixture(scope="module")
def full_bfloat16_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACFT_ASSETS", str(folder / "cache"))
        changes = ("adapter.kind=full", "dtype=bfloat16", "schedule.rounds=1", "method.name=sft")
        paths, code = train(tiny_settings(folder), folder / "runs", *changes)
    assert code == 0, paths.status.read_text()
    return paths


def test_whole_weights_trained_in_half_precision_are_warned_of(full_bfloat16_run, tiny_run):
    def warned(run):
        events = [entry.event for entry in read_events(run.events)]
        return [e.text for e in events if isinstance(e, Note) and "half precision" in e.text]

    (text,) = warned(full_bfloat16_run)
    assert "set dtype = 'float32', or train adapters" in text
    assert warned(tiny_run) == []


def test_the_dtype_of_training_is_kept(full_bfloat16_run, tmp_path):
    folder = export_run(full_bfloat16_run.root, tmp_path / "out")
    with safe_open(folder / "model.safetensors", "pt") as file:
        dtypes = {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
    assert dtypes == {torch.bfloat16}


def test_every_weight_trained_is_exported_merged(full_bfloat16_run, tmp_path):
    folder = export_run(full_bfloat16_run.root, tmp_path / "out")
    tuned = logits_here(open_run(full_bfloat16_run.root).tuned)
    torch.testing.assert_close(logits_elsewhere(folder, tmp_path), tuned, atol=1e-5, rtol=0)


def test_without_an_adapter_none_is_exported(full_bfloat16_run, tmp_path):
    with pytest.raises(ConfigError, match="no adapter; export it merged"):
        export_run(full_bfloat16_run.root, tmp_path / "out", merge=False)
    assert not list(tmp_path.iterdir())


def test_the_oracle_comes_along_and_guides(tiny_run, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = export_run(tiny_run.root, tmp_path / "out", with_oracle=True)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    guide = OracleLogitsProcessor.load(folder / "oracle", model, tokenizer)
    assert guide.portable.record.guidance.strength == 1.5
    inputs = tokenizer(["See the sun", "Rain"], return_tensors="pt", padding=True)
    ids = model.generate(**inputs, max_new_tokens=3, do_sample=True, logits_processor=[guide])
    assert ids.shape[0] == 2


def test_the_card_opens_the_base_for_an_oracle_that_reads_by_it(full_bfloat16_run, tiny_run):
    for paths, needs_base in ((full_bfloat16_run, True), (tiny_run, False)):
        run = open_run(paths.root)
        base = Base.of(run.base.backbone)
        card = model_card(card_facts(run, base, merge=True, with_oracle=True))
        assert ('base = AutoModelForCausalLM.from_pretrained("FOLDER' in card) == needs_base
        assert ("tokenizer, base=base)" in card) == needs_base


def test_a_local_folder_is_no_repository_of_the_hub_however_it_is_called(
    own_run, session_folder, tmp_path
):
    shutil.copytree(session_folder / "model", tmp_path / "models" / "mine")
    record = json.loads(own_run.resolved.read_text())
    record["settings"]["model"]["name"] = "models/mine"
    own_run.resolved.write_text(json.dumps(record))
    launch = json.loads(own_run.launch.read_text()) | {"working_directory": str(tmp_path)}
    own_run.launch.write_text(json.dumps(launch))
    folder = export_run(own_run.root, tmp_path / "out", merge=False)
    card = (folder / "README.md").read_text()
    assert "base_model:" not in card
    assert "mine (a local folder), fine-tuned" in card
    assert (
        json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] is None
    )


def pretend(paths, **method):
    """The run as if another method had made it."""
    record = json.loads(paths.resolved.read_text())
    record["method"] = method
    paths.resolved.write_text(json.dumps(record))


def test_a_card_claims_for_no_other_method_what_holds_for_acft(own_run):
    def card(**method):
        pretend(own_run, **method)
        run = open_run(own_run.root)
        return model_card(
            card_facts(run, Base.of(run.base.backbone), merge=True, with_oracle=False)
        )

    claim = "fine-tuned so that its responses satisfy"
    assert claim in card(name="acft", kl_weight=1.0)
    for control in ({"name": "acft", "kl_weight": 0.0}, {"name": "sft"}):
        assert claim not in card(**control)
    assert "`sft` (Cross-entropy on the same" in card(name="sft")


@pytest.mark.parametrize("has_oracle", [True, False])
def test_weights_that_only_an_oracle_holds_to_the_constraint_are_told_as_such(
    own_run, tmp_path, capsys, has_oracle
):
    pretend(own_run, name="nado_decoding")
    option = ["--oracle"] if has_oracle else []
    runs = ["--runs", str(own_run.root.parent)]
    assert main(["export", own_run.root.name, str(tmp_path / "out"), *option, *runs]) == 0
    assert ("not in these weights" in capsys.readouterr().out) != has_oracle
    card = (tmp_path / "out" / "README.md").read_text()
    where = "is in `oracle/`" if has_oracle else "this folder lacks"
    assert f"do not keep to it; an oracle has to guide them, which {where}." in card


def test_an_earlier_round_can_be_exported(tiny_run, tmp_path):
    folder = export_run(tiny_run.root, tmp_path / "out", checkpoint=1)
    tuned = logits_here(open_run(tiny_run.root, 1).tuned)
    torch.testing.assert_close(logits_elsewhere(folder, tmp_path), tuned, atol=1e-5, rtol=0)
    assert "| 1 of 2, sequential |" in (folder / "README.md").read_text()


def test_the_card_says_what_was_done_and_measured(tiny_run, tmp_path):
    run = open_run(tiny_run.root)
    card = (export_run(tiny_run.root, tmp_path / "out") / "README.md").read_text()
    assert run.constraint.describe() in card
    assert run.base.backbone.sha256 in card
    assert "| rtp | satisfaction |" in card
    assert "| perplexity/lines.txt | perplexity |" in card
    assert "95 % intervals" in card


def test_numbers_of_another_checkpoint_are_not_claimed(tiny_run, tmp_path):
    best = open_run(tiny_run.root).sealed.round
    folder = export_run(tiny_run.root, tmp_path / "out", checkpoint=3 - best)
    assert "Nothing was measured on this checkpoint." in (folder / "README.md").read_text()


@pytest.mark.parametrize("is_told", [True, False])
def test_only_what_was_measured_on_these_weights_is_claimed(tiny_run, tmp_path, is_told):
    runs, other = tmp_path / "runs", tmp_path / "other"
    shutil.copytree(tiny_run.root, runs / tiny_run.root.name)
    shutil.copytree(open_run(tiny_run.root).settings.model.name, other)
    changes = () if is_told else (f"model.name={str(other)!r}",)
    wanted = measurement(runs, tiny_run.root.name, ["perplexity"], changes)
    paths = create_here(runs, wanted.spec, subject=wanted.subject)
    assert run_worker(paths) == 0
    run = open_run(runs / tiny_run.root.name)

    def claimed() -> bool:
        told = card_facts(run, Base.of(run.base.backbone), merge=True, with_oracle=False).measured
        return any(event.metric == "bits_per_byte" for event in told)

    assert claimed() == is_told
    write_status(paths, dataclasses.replace(read_status(paths), state="stopped"))
    assert not claimed()


def test_an_evaluation_without_the_base_takes_no_comparison_from_the_card(tiny_run, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(tiny_run.root, runs / tiny_run.root.name)
    wanted = measurement(runs, tiny_run.root.name, ["perplexity"], ())
    paths = create_here(runs, wanted.spec, subject=wanted.subject)
    assert run_worker(paths) == 0
    alone = RunPaths(runs / f"{paths.root.name[:-4]}zzzz")
    shutil.copytree(paths.root, alone.root)
    events = [json.loads(line) for line in alone.events.read_text().splitlines()]
    kept = [event for event in events if event.get("subject") != "base"]
    assert len(kept) < len(events)
    alone.events.write_text(
        "".join(f"{json.dumps(event | {'seq': n})}\n" for n, event in enumerate(kept, start=1))
    )
    run = open_run(runs / tiny_run.root.name)
    told = card_facts(run, Base.of(run.base.backbone), merge=True, with_oracle=False).measured
    assert {e.subject for e in told if e.metric == "bits_per_byte"} == {"base", "policy"}
    shutil.rmtree(paths.root)
    told = card_facts(run, Base.of(run.base.backbone), merge=True, with_oracle=False).measured
    assert {e.subject for e in told if e.metric == "perplexity"} == {"base", "policy"}


def test_what_a_decoder_drew_is_no_claim_about_the_weights_and_the_card_says_how_was_drawn(
    tiny_run, tmp_path
):
    runs = tmp_path / "runs"
    shutil.copytree(tiny_run.root, runs / tiny_run.root.name)
    run = open_run(runs / tiny_run.root.name)
    for decoder, temperature in (("plain", 0.25), ("best_of_n", 0.5)):
        changes = (
            f'method.subjects.policy.decoder="{decoder}"',
            f"method.options.rtp={{temperature={temperature}, continuations=1}}",
        )
        wanted = measurement(runs, run.run_id, ["rtp"], changes)
        assert run_worker(create_here(runs, wanted.spec, subject=wanted.subject)) == 0
        card = model_card(card_facts(run, Base.of(run.base.backbone), merge=True, with_oracle=True))
        assert "Responses of rtp: at most 20 tokens, temperature 0.25, top-p 0.9." in card


def test_a_card_says_that_scorers_are_biased_and_by_how_much_where_it_was_measured(tiny_run):
    run = open_run(tiny_run.root)
    facts = card_facts(run, Base.of(run.base.backbone), merge=True, with_oracle=False)
    bias = Evaluated("collateral/judge", "group_bias", "policy", 0.0858, 62, low=0.01, high=0.181)
    for measured in ((), (dataclasses.replace(bias, subject="base"), bias)):
        card = model_card(dataclasses.replace(facts, measured=measured))
        row = "| collateral/judge | group_bias | 0.0858 [0.01, 0.181] | 0.0858 [0.01, 0.181] |"
        assert (row in card) == bool(measured)
        assert "By how much is the row `group_bias` of a scorer" in card


@pytest.mark.parametrize("merge", [True, False])
def test_no_file_tells_where_the_run_lies(tiny_run, session_folder, tmp_path, merge):
    folder = export_run(tiny_run.root, tmp_path / "out", merge=merge, with_oracle=True)
    for file in folder.rglob("*"):
        if file.is_file():
            assert str(session_folder).encode() not in file.read_bytes(), file.name


def test_files_can_be_read_by_others(tiny_run, tmp_path):
    folder = export_run(tiny_run.root, tmp_path / "out")
    modes = {file.stat().st_mode for file in folder.iterdir() if file.is_file()}
    assert len(modes) == 1


def test_an_empty_folder_is_taken(tiny_run, tmp_path):
    (tmp_path / "out").mkdir()
    assert (export_run(tiny_run.root, tmp_path / "out") / "config.json").exists()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_destination_in_use_is_left_alone(tiny_run, tmp_path, kind):
    target = tmp_path / "out"
    if kind == "folder":
        target.mkdir()
    kept = target / "mine" if kind == "folder" else target
    kept.write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        export_run(tiny_run.root, target)
    assert kept.read_text() == "mine"


def test_too_little_space_is_told_before_anything_is_written(tiny_run, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"has 0\.977 KiB free; free space or name another disk"):
        export_run(tiny_run.root, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_disk_that_fills_leaves_nothing_behind(tiny_run, tmp_path, monkeypatch, error):
    def fill(backbone, folder):
        (folder / "config.json").write_text("{}")
        raise error

    monkeypatch.setattr("acft.export.write_model", fill)
    with pytest.raises(DataError, match=r"No space left on device.*free space"):
        export_run(tiny_run.root, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_altered_checkpoint_is_refused(own_run, tmp_path):
    weights = open_run(own_run.root).policy_folder / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(AcftError, match="differs from its recorded hash"):
        export_run(own_run.root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_adapter_names_no_base_that_others_do_not_have(tiny_run, tmp_path):
    folder = export_run(tiny_run.root, tmp_path / "out", merge=False)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None


def test_an_export_may_lie_in_the_folder_of_its_run_and_is_written_once(own_run):
    wanted = Export(1, is_merged=False)
    folder = export_within(own_run.root, wanted)
    assert folder == own_run.root / "exports" / "round-1-adapter"
    assert (folder / "README.md").exists()
    (folder / "README.md").write_text("mine")
    assert export_within(own_run.root, wanted) == folder
    assert (folder / "README.md").read_text() == "mine"
    assert exports(own_run) == [wanted]


def test_what_a_killed_export_left_goes_with_the_next_one(own_run):
    remains = own_run.exports / ".tmp-12345678-round-1-merged"
    remains.mkdir(parents=True)
    export_within(own_run.root, Export(1, is_merged=False))
    assert not remains.exists()


def test_an_export_does_not_follow_a_link_out_of_the_run(own_run, tmp_path):
    mine = tmp_path / "mine" / ".tmp-precious"
    mine.mkdir(parents=True)
    own_run.exports.symlink_to(mine.parent)
    with pytest.raises(DataError, match="has the link 'exports'"):
        export_within(own_run.root, Export(1, is_merged=False))
    assert [*mine.parent.iterdir()] == [mine]


def test_nothing_is_left_in_the_run_where_a_round_was_never_sealed(own_run):
    with pytest.raises(RunError, match="has no round 9"):
        export_within(own_run.root, Export(9))
    assert not own_run.exports.exists()


def test_the_workbench_exports_by_the_same_way(own_run):
    told = exporting.export(
        Session("cpu"), str(own_run.root.parent), own_run.root.name, 1,
        is_merged=False, has_oracle=True,
    )  # fmt: skip
    assert told == []
    wanted = Export(1, is_merged=False, has_oracle=True)
    assert (wanted.folder(own_run) / "oracle").is_dir()
    assert exports(own_run) == [wanted]


def test_without_a_folder_the_command_writes_into_the_run(own_run, capsys):
    assert main(["export", own_run.root.name, "--adapter", "--runs", str(own_run.root.parent)]) == 0
    assert "round-" in capsys.readouterr().out
    assert len(exports(own_run)) == 1


def test_the_card_shows_an_interval_without_a_limit_above_as_such():
    found = [
        Evaluated("rtp/judge", "toxic_share", "policy", 0.05, 40),
        Evaluated("rtp/judge", "toxic_share_change", "policy", 4.0, 40, low=0.5),
    ]
    by_name = {(event.suite, event.metric, event.subject): event for event in found}
    assert [row[4] for row in _rows(by_name)] == ["+400.0 % [+50.0, inf)"]
