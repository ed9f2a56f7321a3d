import json
import re

import pytest

from acft.errors import AcftError, DataError
from acft.inference.rehearsal import rehearse
from acft.inference.server import Session
from acft.inference.workload import Speeds, expected_work
from acft.runs.spec import parse_spec
from tests.tiny_run import tiny_settings


def rehearsed(text):
    """The parts and the result."""
    parts, steps = [], rehearse(Session("cpu"), text)
    while True:
        try:
            parts.append(next(steps)["doing"])
        except StopIteration as end:
            return parts, end.value


def tiny(tmp_path, *tables, **shape):
    return "\n".join([tiny_settings(tmp_path, **shape), *tables])


def test_one_real_step_with_its_kl_is_taken_and_nothing_is_left_behind(tmp_path):
    text = tiny(tmp_path, '[method]\nname = "acft"')
    before = sorted(p.name for p in tmp_path.rglob("*"))
    parts, found = rehearsed(text)
    assert sorted(p.name for p in tmp_path.rglob("*")) in (
        before,
        sorted([*before, ".sha256.json"]),
    )
    assert found["step"]["time/step_seconds"] > 0
    assert "policy/kl_guided_policy" in found["step"]
    assert found["has_kl"]
    assert "taking one optimiser step" in parts
    assert found["peak_bytes"] > 0
    assert 0 < found["free_bytes"] <= found["memory_bytes"]
    json.dumps(found, allow_nan=False)


def test_the_step_is_the_one_that_the_run_takes_first(tmp_path):
    text = tiny(tmp_path, '[method]\nname = "sft"').replace('source = "base_rollouts"', "source = "
                + json.dumps(str(tmp_path / "lines.txt")))  # fmt: skip
    from acft.eventlog import read_events
    from acft.events import Scalars
    from tests.tiny_run import train

    paths, code = train(text, tmp_path / "runs")
    assert code == 0
    events = [entry.event for entry in read_events(paths.events)]
    first = next(e for e in events if isinstance(e, Scalars) and "policy/loss" in e.values)
    _, found = rehearsed(text)
    assert found["step"]["policy/loss"] == pytest.approx(first.values["policy/loss"], rel=1e-5)


def test_a_step_on_no_corpus_is_not_tried(tmp_path):
    text = "corpus = []\n" + tiny(tmp_path, '[method]\nname = "dpg"')
    _, found = rehearsed(re.sub(r"\[\[corpus\]\][^\[]*", "", text))
    assert found["step"] == {}
    assert "optimiser steps" not in {part["what"] for part in found["work"]}


def test_tokenizer_oracle_and_prompts_are_checked_against_the_model(tmp_path):
    _, found = rehearsed(tiny(tmp_path, '[method]\nname = "acft"'))
    checks = {check["name"]: check for check in found["checks"]}
    assert {"Tokenizer and model", "End of text", "Padding", "Length", "Oracle"} <= checks.keys()
    assert all(check["is_ok"] for check in checks.values())


def test_a_prompt_beyond_the_context_is_told(tmp_path):
    _, found = rehearsed(tiny(tmp_path, '[method]\nname = "sft"', context=32))
    length = next(check for check in found["checks"] if check["name"] == "Length")
    assert not length["is_ok"]
    assert "the model reads 32" in length["text"]


def test_a_source_that_is_not_there_is_told_in_a_sentence(tmp_path):
    text = tiny(tmp_path, '[method]\nname = "sft"')
    (tmp_path / "lines.txt").unlink()
    with pytest.raises((DataError, AcftError), match=r"lines\.txt"):
        rehearsed(text)


def test_the_expected_time_counts_everything_a_run_does(tmp_path):
    text = tiny(tmp_path, '[method]\nname = "acft"').replace("max_epochs = 2", "max_epochs = 30")
    spec = parse_spec(text)
    work = {part.what: part for part in expected_work(spec, Speeds(2.0, 0.1, 0.3, 0.01), 8)}
    assert work["optimiser steps"].low == 2 * 2 * 2.0
    judged = work["responses for the oracle, judged at every prefix"]
    assert judged.n == 2 * (48 + 24)
    read = work["responses read by the oracle in each pass"]
    assert (read.low, read.high) == pytest.approx((5 * 144 * 0.01, 30 * 144 * 0.01))
    assert work["responses for corpus, validation and test"].n == 8 + 3 * 8 + 2 * 8


@pytest.mark.parametrize("corpora", ["", "corpus = []\n"])
def test_decoding_has_an_oracle_to_train_and_no_step_to_take(tmp_path, corpora):
    text = tiny(tmp_path, '[method]\nname = "nado_decoding"')
    if corpora:
        text = corpora + re.sub(r"\[\[corpus\]\][^\[]*", "", text)
    parts, found = rehearsed(text)
    kinds = {part["what"] for part in found["work"]}
    assert "responses for the oracle, judged at every prefix" in kinds
    assert "responses read by the oracle in each pass" in kinds
    assert "optimiser steps" not in kinds
    assert "taking one optimiser step" not in parts
    assert not found["step"]
    assert not found["is_whole"]


def test_a_control_without_oracle_has_no_oracle_work(tmp_path):
    spec = parse_spec(tiny(tmp_path, '[method]\nname = "sft"'))
    assert len(expected_work(spec, Speeds(2.0, 0.1, 0.3, 0.01), 0)) == 2
