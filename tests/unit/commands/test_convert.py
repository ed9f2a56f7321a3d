"""``acft convert``: what it writes, and what it leaves alone."""

import shutil
from unittest.mock import Mock

import pytest
import transformers

from acft.__main__ import main
from acft.backbone import convert


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A file that is taken for a GGUF model."""

    def write(source, folder):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(source.read_bytes())

    monkeypatch.setattr(convert, "_write_safetensors", write)
    file = tmp_path / "a.gguf"
    file.write_bytes(b"weights")
    return file


def test_a_folder_is_made_and_left_alone_the_second_time(model, tmp_path, capsys):
    folder = tmp_path / "out"
    assert main(["convert", str(model), str(folder)]) == 0
    assert f"[model] name = '{folder}'" in capsys.readouterr().out
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    model.write_bytes(b"others")
    assert main(["convert", str(model), str(folder)]) == 0
    assert "nothing is written" in capsys.readouterr().out
    assert (folder / "model.safetensors").read_bytes() == b"weights"


def test_of_two_that_convert_at_once_the_slower_one_leaves_the_folder_alone(
    model, tmp_path, monkeypatch
):
    slow, folder = convert._write_record, tmp_path / "out"

    def write_while_another_ends(source, unfinished):
        slow(source, unfinished)
        shutil.copytree(unfinished, folder)
        (folder / "being-read").touch()

    monkeypatch.setattr(convert, "_write_record", write_while_another_ends)
    convert.convert_gguf(model, folder)
    assert (folder / "being-read").exists()
    assert [file.name for file in tmp_path.iterdir() if file.is_dir()] == ["out"]


def test_a_part_of_a_split_file_is_refused_as_its_other_weights_would_be_random(
    tmp_path, monkeypatch, capsys
):
    told = {"missing_keys": {"layers.3.up", "norm"}, "mismatched_keys": {("head", 1, 2)}}
    opened = Mock(return_value=(Mock(), told))
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", opened)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", Mock())
    file = tmp_path / "a-00001-of-00002.gguf"
    file.write_bytes(b"GGUF")
    assert main(["convert", str(file), str(tmp_path / "out")]) == 2
    assert "lacks 3 of the model's weights (head, ...)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\0\0\0", b"something else"])
def test_a_file_that_is_no_whole_gguf_is_told_in_a_sentence(tmp_path, capsys, content):
    file = tmp_path / "a.gguf"
    file.write_bytes(content)
    assert main(["convert", str(file), str(tmp_path / "out")]) == 2
    assert "does not open as a GGUF model" in capsys.readouterr().err


def test_a_folder_that_holds_something_else_is_not_touched(model, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    assert main(["convert", str(model), str(tmp_path / "out")]) == 2
    assert "holds something already" in capsys.readouterr().err
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_a_file_that_is_not_there_is_told(tmp_path, capsys):
    assert main(["convert", str(tmp_path / "none.gguf"), str(tmp_path / "out")]) == 2
    assert "no GGUF file at" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
