"""The measurement of an oracle runs, and says what it measured."""

import json

import pytest

from benchmarks.oracle import STRENGTHS, main
from tests.tiny_run import tiny_settings


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """What is printed for a tiny model, by kind."""
    place = tmp_path_factory.mktemp("tiny")
    settings = tiny_settings(place).replace("scorers = []", 'scorers = ["profanity_svm"]')
    settings = settings.replace("[a-m]{2}", "[a-d]")
    (place / "tiny.toml").write_text(settings)
    arguments = ["--rollouts", "48", "--validation", "24", "--each", "8", "--decoded", "2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACFT_ASSETS", str(place / "cache"))
        printed: list[str] = []
        patch.setattr("builtins.print", lambda text, **_: printed.append(text))
        main([*arguments, "--resamples", "50", "--experiment", str(place / "tiny.toml")])
    found: dict[str, list[dict]] = {}
    for line in printed:
        values = json.loads(line)
        found.setdefault(values.pop("kind"), []).append(values)
    return found


def test_calibration_counts_every_held_out_response(lines):
    (calibration,) = lines["calibration"]
    assert calibration["n"] == 8 * calibration["prompts"]
    mean, low, high = calibration["intervals"]["auc"]
    assert 0 <= low <= mean <= high <= 1
    assert mean == pytest.approx(calibration["auc"], abs=1e-4), "of the responses, not of resamples"


def test_every_strength_is_estimated(lines):
    assert [row["strength"] for row in lines["estimated"]] == list(STRENGTHS)
    assert all(0 < row["effective_share"] <= 1 for row in lines["estimated"])
    for row in lines["estimated"]:
        value, low, high = row["nats_beyond_base"]
        assert -5 < low <= value <= high < 5


def test_the_optimum_that_guidance_aims_at_is_measured_too(lines):
    (optimum,) = lines["optimum"]
    value, low, high = optimum["nats_beyond_base"]
    assert -5 < low <= value <= high < 5


def test_text_is_decoded_without_guidance_at_one_and_as_strongly_as_chosen(lines):
    (chosen,) = lines["automatic strength"]
    strengths = [row["strength"] for row in lines["decoded"]]
    assert strengths == [0.0, *sorted({1.0, *chosen["by_target"].values()})]
    assert all(row["n"] == lines["decoded"][0]["n"] > 0 for row in lines["decoded"])
    assert all(abs(row["nats_beyond_base"][0]) < 5 for row in lines["decoded"][1:])
