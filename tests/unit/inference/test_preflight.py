import json
import re

import pytest

from acft.errors import RunError
from acft.inference.preflight import preflight
from acft.inference.server import Session
from acft.inference.settings import launch
from tests.tiny_run import tiny_settings


def test_sizes_samples_and_room_are_told_without_creating_a_run(tmp_path):
    text = tiny_settings(tmp_path)
    runs = tmp_path / "runs"
    runs.mkdir()
    found = preflight(Session("cpu"), str(runs), text)
    assert found["problems"] == []
    assert sum(found["prompts"].values()) == 36
    own, lines = found["corpora"]
    assert "written by the policy" in own["note"]
    assert sum(lines["documents"].values()) == 40
    assert any(token["in_ce"] for token in lines["samples"][0])
    assert found["free_bytes"] > 0
    assert list(runs.iterdir()) == []
    json.dumps(found)


def test_a_method_that_learns_from_its_own_responses_needs_no_corpus(tmp_path):
    text = f'corpus = []\n{tiny_settings(tmp_path)}[method]\nname = "dpg"\n'
    without = re.sub(r"\[\[corpus\]\][^\[]*", "", text)
    found = preflight(Session("cpu"), str(tmp_path), without)
    assert found["problems"] == []
    assert found["corpora"] == []


def test_a_missing_source_is_a_problem_and_nothing_is_opened(tmp_path):
    text = tiny_settings(tmp_path)
    (tmp_path / "lines.txt").unlink()
    found = preflight(Session("cpu"), str(tmp_path), text)
    assert "lines.txt" in found["problems"][0]
    assert "corpora" not in found


def test_a_run_beyond_the_quota_is_a_problem_and_is_not_queued(tmp_path):
    text = tiny_settings(tmp_path)
    runs = tmp_path / "runs"
    first = launch(Session("cpu"), str(runs), text, request_id="a", quota_bytes=10**6)
    found = preflight(Session("cpu"), str(runs), text, quota_bytes=1)
    assert "quota" in found["problems"][0]
    with pytest.raises(RunError, match="quota"):
        launch(Session("cpu"), str(runs), text, request_id="b", quota_bytes=1)
    assert [path.name for path in runs.iterdir() if path.is_dir()] == [first]


def test_a_prompt_that_is_given_is_shown_as_not_learned(tmp_path):
    lines = [
        {"p": f"In year {n} the harvest was", "text": "good, and the river high."}
        for n in range(40)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    pairs = f'source = {json.dumps(str(tmp_path / "pairs.jsonl"))}\nprompt_field = "p"\n'
    text = tiny_settings(tmp_path)
    old = f"source = {json.dumps(str(tmp_path / 'lines.txt'))}\n"
    assert old in text
    learned = {}
    for loss in ("all", "response"):
        found = preflight(
            Session("cpu"), str(tmp_path), text.replace(old, f'{pairs}loss = "{loss}"\n')
        )
        (sample, *_) = found["corpora"][1]["samples"]
        learned[loss] = "".join(token["text"] for token in sample if token["in_ce"])
    assert "harvest" in learned["all"]
    assert "harvest" not in learned["response"]
    assert "good" in learned["response"]
