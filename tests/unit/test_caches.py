"""Remembered results that several processes write and read at once."""

from pathlib import Path

import pytest

from acft.backbone.loading import weights_sha256
from acft.oracle.verdicts import token_verdicts

MEMO = ".sha256.json"
VALUES = [0.0, 0.5, 1.0]


def verdicts(cache, judge=lambda _prompts, _texts: VALUES):
    return token_verdicts(str, len(VALUES), judge, cache, "the same question").tolist()


def unasked(_prompts, _texts):
    raise AssertionError("what is remembered is not asked about again")


@pytest.fixture
def weights(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def test_two_processes_may_remember_the_same_verdicts_at_the_same_time(tmp_path, monkeypatch):
    replace, first = Path.replace, iter(["first"])

    def overtaken(self, target):
        if next(first, None):
            verdicts(tmp_path)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", overtaken)
    assert verdicts(tmp_path) == VALUES
    assert verdicts(tmp_path, unasked) == VALUES
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00"])
def test_unreadable_verdicts_are_asked_for_again(tmp_path, content):
    verdicts(tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert verdicts(tmp_path) == VALUES
    assert verdicts(tmp_path, unasked) == VALUES


@pytest.mark.parametrize("content", ["", '{"stamp": [["mod', "[]", "\udcff"])
def test_an_unreadable_memo_of_a_hash_is_made_again(weights, content):
    expected = weights_sha256(weights)
    memo = weights / MEMO
    whole = memo.read_bytes()
    memo.write_text(content, errors="surrogateescape")
    assert weights_sha256(weights) == expected
    assert memo.read_bytes() == whole


def test_the_memo_of_a_hash_is_replaced_in_one_step(weights, monkeypatch):
    weights_sha256(weights)
    before = (weights / MEMO).read_bytes()
    (weights / "model.safetensors").write_bytes(b"other weights")

    def power_cut(*_):
        raise OSError("no power")

    monkeypatch.setattr(Path, "replace", power_cut)
    with pytest.raises(OSError, match="no power"):
        weights_sha256(weights)
    assert (weights / MEMO).read_bytes() == before
    assert sorted(path.name for path in weights.iterdir()) == [MEMO, "model.safetensors"]
