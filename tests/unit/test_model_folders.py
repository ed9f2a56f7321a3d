"""Folders of models that are broken, or were made to do harm: refused before they are opened."""

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from acft.backbone import loading, sharded
from acft.backbone.loading import check_model, load_backbone, weights_sha256
from acft.distributed import Ranks
from acft.errors import ModelError
from acft.settings import ModelSettings
from tests.fakes import CHAT_TEMPLATE, N_TOKENS, pretrained_byte_tokenizer, save_tiny_model

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path):
    return save_tiny_model(tmp_path / "model")


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def opened(folder, **settings):
    return load_backbone(ModelSettings(name=str(folder), **settings), "cpu", "float32")


def seen_at_once(folder):
    """What is said before a run is queued."""
    with pytest.raises(ModelError) as caught:
        check_model(ModelSettings(name=str(folder)))
    return str(caught.value)


class Trap:
    """Writes a file when it is read back from a pickle."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def with_code(folder, mark, **config):
    (folder / "code.py").write_text(f"open({str(mark)!r}, 'w')\n")
    edit(
        folder / "config.json",
        auto_map={"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"},
        **config,
    )
    return folder


def test_code_beside_a_known_model_is_not_run(folder, tmp_path):
    opened(with_code(folder, tmp_path / "ran"))
    assert not (tmp_path / "ran").exists()


def test_a_model_that_is_code_of_its_own_is_refused_without_running_it(folder, tmp_path):
    with_code(folder, tmp_path / "ran", model_type="unheard_of")
    with pytest.raises(ModelError, match="code from a model's folder is never run"):
        opened(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", ["weights.bin", "../other/model.safetensors"])
def test_an_index_leads_to_no_pickle_and_out_of_no_folder(folder, tmp_path, place):
    (tmp_path / "other").mkdir()
    names = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).rename(tmp_path / "other" / WEIGHTS)
    (folder / "unused.safetensors").touch()
    (folder / "weights.bin").write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, place)}
    (folder / INDEX).write_text(json.dumps(index))
    assert f"names {place!r}; weights must be .safetensors" in seen_at_once(folder)
    assert not (tmp_path / "ran").exists()


def test_a_part_that_is_missing_is_named(folder):
    index = {"metadata": {}, "weight_map": {"a": "model-00002-of-00002.safetensors"}}
    (folder / WEIGHTS).rename(folder / "model-00001-of-00002.safetensors")
    (folder / INDEX).write_text(json.dumps(index))
    assert "lacks its file 'model-00002-of-00002.safetensors'" in seen_at_once(folder)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda whole: whole[: len(whole) // 2], "bytes that should have"),
        (lambda whole: whole + b"more", "bytes that should have"),
        (lambda _: b"", "damaged file 'model.safetensors', 0 bytes"),
        (lambda whole: b"\xff" * len(whole), "damaged file"),
        (lambda whole: whole[:8] + b"}" + whole[9:], "no JSON of safetensors"),
    ],
)
def test_weights_that_are_cut_or_damaged_are_refused(folder, damage, told):
    (folder / WEIGHTS).write_bytes(damage((folder / WEIGHTS).read_bytes()))
    assert told in seen_at_once(folder)


def test_more_layers_than_weights_are_refused_before_they_are_built(folder):
    edit(folder / "config.json", num_hidden_layers=10**12)
    assert "a model of 1,000,000,000,000 layers" in seen_at_once(folder)


def test_other_widths_than_the_weights_have_are_told(folder):
    edit(folder / "config.json", hidden_size=200_000)
    with pytest.raises(ModelError, match="its weights have other shapes"):
        opened(folder)


def test_a_model_larger_than_the_memory_is_refused(folder, monkeypatch):
    monkeypatch.setattr(loading, "peak_memory", lambda: (0, 1000))
    with pytest.raises(ModelError, match="GB for its weights alone"):
        opened(folder)


class OpenedError(Exception):
    """Ends loading where the weights would be read."""


@pytest.mark.parametrize(
    ("device", "sharding", "processes", "placed"),
    [
        ("cuda", "none", 1, {"": "cuda:1"}),
        ("cuda", "fsdp", 1, {"": "cuda:1"}),
        ("cuda", "fsdp", 2, None),
        ("cpu", "none", 1, None),
    ],
    ids=["gpu", "alone", "divided", "cpu"],
)
def test_weights_are_read_onto_a_whole_models_gpu_one_by_one(
    folder, monkeypatch, device, sharding, processes, placed
):
    asked = {}

    def opened(_, **options):
        asked.update(options)
        raise OpenedError

    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", opened)
    monkeypatch.setattr(sharded, "ranks", lambda: Ranks(0, processes))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    settings = ModelSettings(name=str(folder), sharding=sharding)
    with pytest.raises(OpenedError):
        load_backbone(settings, device, "float32")
    assert asked.get("device_map") == placed


@pytest.mark.parametrize("method", ["gptq", "bitsandbytes", "fp8", "unheard_of"])
def test_weights_that_are_quantised_already_are_refused(folder, method):
    edit(folder / "config.json", quantization_config={"quant_method": method})
    assert "name the original model" in seen_at_once(folder)


def test_an_adapter_that_lies_with_a_model_is_refused(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    assert "holds an adapter" in seen_at_once(folder)


def test_a_kernel_from_a_hub_is_refused(folder):
    edit(folder / "config.json", _attn_implementation="somebody/attention")
    assert "code from elsewhere to compute attention" in seen_at_once(folder)


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer.json", "config.json"])
def test_a_text_that_is_a_link_out_of_the_folder_is_refused(folder, tmp_path, name):
    (tmp_path / "secret").write_text("{}")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "secret")
    assert f"a link out of the folder, {name!r}" in seen_at_once(folder)


def test_a_folder_of_the_hubs_cache_consists_of_links(tmp_path):
    revision = tmp_path / "cache" / "snapshots" / "abc"
    blobs = save_tiny_model(tmp_path / "cache" / "blobs")
    revision.mkdir(parents=True)
    for file in blobs.iterdir():
        (revision / file.name).symlink_to(f"../../blobs/{file.name}")
    assert opened(revision).source == "local"


def test_a_pipe_stops_nothing(folder):
    (folder / "generation_config.json").unlink()
    os.mkfifo(folder / "generation_config.json")
    assert "'generation_config.json', which is no plain file" in seen_at_once(folder)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("content", ["{", "[1]"])
def test_settings_that_are_none_are_named(folder, name, content):
    (folder / name).write_text(content)
    assert name in seen_at_once(folder)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_found(folder, number):
    weights = load_file(folder / WEIGHTS)
    name = "model.embed_tokens.weight"
    weights[name][77, 3] = number  # of a token that no trial text needs to have
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    with pytest.raises(ModelError, match=f"undefined numbers in its weights '{name}'"):
        opened(folder)


def test_a_tokenizer_of_a_larger_vocabulary_is_refused(tmp_path):
    folder = save_tiny_model(tmp_path / "model", vocab_size=200)
    with pytest.raises(ModelError, match=r"knows 200 tokens, but its tokenizer makes .* 255"):
        opened(folder)


def test_a_template_with_a_token_that_the_model_does_not_have_is_refused(folder):
    tokenizer = pretrained_byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    tokenizer.chat_template = "<turn>" + CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    assert opened(folder).source == "local"  # raw text never has it
    with pytest.raises(ModelError, match=f"up to number {N_TOKENS}"):
        opened(folder, chat_template=True)


@pytest.mark.parametrize("end", [N_TOKENS, -1, "x", [3, 1.5]])
def test_an_end_of_responses_that_is_no_token_is_refused(folder, end):
    edit(folder / "generation_config.json", eos_token_id=end)
    with pytest.raises(ModelError, match=r"responses end at the token|does not open"):
        opened(folder)


def test_a_hash_that_comes_along_with_the_folder_is_not_believed(folder):
    true = weights_sha256(folder)
    memo = json.loads((folder / ".sha256.json").read_text())
    [[name, size, written, *_]] = memo["stamp"]
    copy = folder / "copy"
    copy.write_bytes((folder / WEIGHTS).read_bytes())
    copy.replace(folder / WEIGHTS)
    os.utime(folder / WEIGHTS, ns=(written, written))
    for stamp in ([[name, size, written]], memo["stamp"]):
        (folder / ".sha256.json").write_text(json.dumps({"stamp": stamp, "sha256": "a lie"}))
        assert weights_sha256(folder) == true


def test_weights_of_half_the_precision_are_counted_as_they_will_be_held(folder, monkeypatch):
    weights = {
        name: values.to(torch.bfloat16) for name, values in load_file(folder / WEIGHTS).items()
    }
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    n = sum(values.numel() for values in weights.values())
    monkeypatch.setattr(loading, "peak_memory", lambda: (0, 3 * n))
    load_backbone(ModelSettings(name=str(folder)), "cpu", "bfloat16")
    with pytest.raises(ModelError, match="GB for its weights alone"):
        opened(folder)
