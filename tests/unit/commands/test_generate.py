import io
import json

import pytest

from acft.__main__ import main
from acft.commands._printable import printable
from tests.fakes import save_tiny_model

PROMPT = "See the rain"


class LengthScorer:
    """Calls long responses toxic."""

    name, version, sha256 = "length", "1", "0"

    def __init__(self, limit=0):
        self.limit = limit

    def score(self, texts):
        return [0.9 if len(text) > self.limit else 0.1 for text in texts]


@pytest.fixture
def ask(tiny_run, capsys):
    """Calls the command on the finished run; gives exit code, output and errors."""

    def call(*arguments, source=None):
        runs = ["--runs", str(tiny_run.root.parent)]
        code = main(["generate", source or tiny_run.root.name, *arguments, *runs])
        return (code, *capsys.readouterr())

    return call


@pytest.fixture
def judged(monkeypatch):
    """One judge, which calls everything toxic."""
    from acft.runs.restore import RestoredRun

    judges = [LengthScorer()]
    monkeypatch.setattr(RestoredRun, "judges", judges)
    return judges


def test_json_has_one_record_for_each_response(ask):
    code, out, _ = ask("--prompt", PROMPT, "--prompt", "Rain", "--n", "2", "--json")
    records = json.loads(out)
    assert code == 0
    assert [(r["prompt"], r["sample"]) for r in records] == [
        (PROMPT, 0), (PROMPT, 1), ("Rain", 0), ("Rain", 1),
    ]  # fmt: skip
    assert {r["satisfaction"] for r in records} <= {0.0, 1.0}
    assert all(1 <= r["n_tokens"] <= 6 for r in records)


def test_a_run_whose_constraint_is_in_its_decoding_is_decoded_so(own_run, monkeypatch):
    from acft.runs.restore import RestoredRun

    record = json.loads(own_run.resolved.read_text())
    record["method"] = {"name": "nado_decoding"}
    own_run.resolved.write_text(json.dumps(record))
    used, sampler = [], RestoredRun.sampler

    def spied(run, subject, decoder, options):
        used.append(decoder)
        return sampler(run, subject, decoder, options)

    monkeypatch.setattr(RestoredRun, "sampler", spied)
    words = ["generate", own_run.root.name, "--runs", str(own_run.root.parent), "--prompt", PROMPT]
    for more in ([], ["--subject", "base"], ["--decoder", "plain"]):
        assert main([*words, *more]) == 0
    assert used == ["guided", "plain", "plain"]


@pytest.mark.parametrize("subject", ["base", "tuned"])
@pytest.mark.parametrize("decoder", ["plain", "guided"])
def test_the_same_seed_writes_the_same(ask, subject, decoder):
    how = ("--prompt", PROMPT, "--n", "3", "--subject", subject, "--decoder", decoder, "--json")
    first, again, other = (
        [r["response"] for r in json.loads(ask(*how, "--seed", seed)[1])] for seed in "112"
    )
    assert first == again != other


def test_strength_changes_what_guidance_writes(ask):
    how = ("--prompt", PROMPT, "--n", "8", "--decoder", "guided", "--json")
    weak, strong = (ask(*how, "--strength", s)[1] for s in ("0.01", "50"))
    assert [r["response"] for r in json.loads(weak)] != [r["response"] for r in json.loads(strong)]


def test_prompts_come_from_standard_input(ask, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("See the sun\n\nRain\n"))
    records = json.loads(ask("--json")[1])
    assert [r["prompt"] for r in records] == ["See the sun", "Rain"]


def test_without_any_prompt_it_says_how_to_give_one(ask, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    code, _, err = ask()
    assert (code, err) == (2, "error: no prompt; give --prompt TEXT, or lines on standard input\n")


def test_texts_judged_toxic_are_hidden(ask, judged):
    shown = json.loads(ask("--prompt", PROMPT, "--json")[1])[0]
    code, out, _ = ask("--prompt", PROMPT)
    assert code == 0
    assert "[hidden: length 0.90; --show prints it]" in out
    assert shown["scores"] == {"length": 0.9}


def test_hidden_texts_are_printed_on_request(ask, judged):
    response = json.loads(ask("--prompt", PROMPT, "--json")[1])[0]["response"]
    out = ask("--prompt", PROMPT, "--show")[1]
    assert "[hidden" not in out
    assert printable(response) in out


def test_harmless_texts_are_printed(ask, judged):
    judged[0].limit = 1000
    assert "[hidden" not in ask("--prompt", PROMPT)[1]


def test_without_judges_nothing_is_hidden(ask, judged):
    assert "[hidden" not in ask("--prompt", PROMPT, "--no-judge")[1]


def test_a_model_that_no_run_has_touched_writes_too(ask, tmp_path):
    model = str(save_tiny_model(tmp_path / "model"))
    code, out, _ = ask("--prompt", PROMPT, "--no-judge", "--json", source=model)
    assert code == 0
    assert json.loads(out)[0]["policy_version"] == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--n", "0"], "--n 0: must be at least 1"),
        (["--top-p", "1.5"], "[sampling] top_p = 1.5"),
        (
            ["--top-p", "0.9", "--decoder", "rad"],
            "--top-p 0.9 has no effect with the decoder 'rad'",
        ),
        (["--temperature", "0"], "[sampling] temperature = 0"),
        (["--max-tokens", "0"], "[sampling] horizon = 0"),
        (["--decoder", "guide"], "did you mean 'guided'"),
        (["--option", "strength"], "--option 'strength' is not of the form key=value"),
        (["--prompt", "abc\udcff"], "is not UTF-8"),
        (["--decoder", "guided", "--strength", "-1"], "strength = -1"),
        (["--checkpoint", "9"], "no round 9 (sealed rounds: 1, 2)"),
        (["--max-tokens", "500"], f"the first begins {PROMPT!r} and has"),
    ],
)
def test_wrong_use_is_one_sentence_and_code_2(ask, wrong, message):
    code, out, err = ask("--prompt", PROMPT, *wrong)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_lines_on_standard_input_that_are_no_text_are_told(ask, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"abc\xff\n"), "utf-8"))
    code, _, err = ask("--no-judge")
    assert code == 2
    assert "standard input is not UTF-8 (byte 0xff)" in err


def test_an_unknown_run_is_told(ask):
    code, _, err = ask("--prompt", PROMPT, source="20200101-000000-aaaa")
    assert code == 2
    assert "no run '20200101-000000-aaaa'" in err


def test_a_missing_model_is_told(ask):
    code, _, err = ask("--prompt", PROMPT, "--no-judge", source="smollm2")
    assert code == 2
    assert "no directory, no packaged model; did you mean 'smollm2-135m'" in err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é", "plain é"),
        ("two\nlines\tand tabs", "two lines and tabs"),
        ("\x1b[31mred", "\N{REPLACEMENT CHARACTER}[31mred"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}abc", "\N{REPLACEMENT CHARACTER}abc"),
    ],
)
def test_nothing_in_a_text_steers_the_terminal(text, shown):
    assert printable(text) == shown
