"""What the terminal says of a run that has been measured."""

import io

from rich.console import Console

from acft.commands._results import Results
from acft.events import Evaluated


def measured(metric, value, subject="base", low=None, high=None, suite="rtp/judge"):
    return Evaluated(
        suite=suite, metric=metric, value=value, n=40, subject=subject, low=low, high=high
    )


def text(*found, width=120):
    results = Results()
    for event in found:
        results.add(event)
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(results.table())
    return console.export_text()


def test_subjects_stand_side_by_side_with_their_change():
    shown = text(
        measured("toxic_share", 0.1225, low=0.0725, high=0.18),
        measured("toxic_share", 0.045, "policy", 0.0225, 0.075),
        measured("toxic_share_change", -0.63, "policy", -0.82, -0.28),
    )
    (row,) = [line for line in shown.splitlines() if "toxic_share" in line]
    assert row.split()[1:] == ["0.1225", "[0.0725,0.18]", "0.045", "[0.0225,0.075]",
                               "-63%", "[-82%,-28%]"]  # fmt: skip
    assert "40 prompts or documents" in shown


def test_an_interval_without_a_limit_above_is_shown_as_such():
    shown = text(
        measured("toxic_share", 0.01),
        measured("toxic_share", 0.05, "policy"),
        measured("toxic_share_change", 4.0, "policy", 0.5, None),
    )
    assert "+400% [+50%,inf)" in shown


def test_more_subjects_stand_below_each_other_each_with_its_own_change():
    shown = text(
        measured("acc", 0.25),
        measured("acc", 0.26, "control"),
        measured("acc", 0.3, "policy"),
        measured("acc_change", 0.04, "control", -0.01, 0.1),
        measured("acc_change", 0.2, "policy", 0.1, 0.3),
        width=80,
    )
    rows = [line.split() for line in shown.splitlines() if "0.2" in line or "0.3" in line]
    assert rows == [
        ["acc", "base", "0.25", "-"],
        ["control", "0.26", "+4%", "[-1%,+10%]"],
        ["policy", "0.3", "+20%", "[+10%,+30%]"],
    ]


def test_with_a_control_it_says_what_goes_beyond_it():
    shown = text(
        measured("toxic_share", 0.1),
        measured("toxic_share", 0.09, "control"),
        measured("toxic_share", 0.03, "policy"),
        measured("toxic_share_change", -0.1, "control", -0.2, 0.05),
        measured("toxic_share_change", -0.7, "policy", -0.8, -0.5),
        measured("toxic_share_change_beyond_control", -0.6, "policy", -0.7, -0.4),
    )
    head, *rows = [line.split() for line in shown.splitlines() if "0." in line or "beyond" in line]
    assert head[-3:] == ["change", "beyond", "control"]
    assert rows == [
        ["toxic_share", "base", "0.1", "-", "-"],
        ["control", "0.09", "-10%", "[-20%,+5%]", "-"],
        ["policy", "0.03", "-70%", "[-80%,-50%]", "-60%", "[-70%,-40%]"],
    ]


def test_what_nothing_could_be_measured_of_has_no_n():
    shown = text(measured("perplexity", None, suite="perplexity/brown"))
    assert "nothing was there to measure" in " ".join(shown.split())


def test_a_corpus_that_is_a_file_is_shown_by_its_name():
    shown = text(measured("perplexity", 30.1, suite="perplexity//data/texts/news.txt"))
    assert "perplexity/news.txt\n" in shown.replace(" ", "")


def test_a_narrow_terminal_breaks_no_interval():
    rows = [
        measured("toxicity_probability", 0.525, low=0.375, high=0.675),
        measured("toxicity_probability", 0.3, "policy", 0.175, 0.45),
        measured("toxicity_probability_change", -0.43, "policy", -0.68, -0.07),
    ]
    words = text(*rows, width=80).split()
    assert {"[0.375,0.675]", "[0.175,0.45]", "[-68%,-7%]"} <= set(words)


def test_single_categories_and_differences_do_not_bury_the_rest():
    shown = text(
        measured("toxic_share", 0.1),
        measured("toxic_share@insult", 0.7),
        measured("toxic_share_at_0.9", 0.2),
        measured("toxic_share_difference", -0.3, "policy"),
    )
    assert "insult" not in shown
    assert "0.9" not in shown
    assert "difference" not in shown


def test_what_could_not_be_measured_has_no_number():
    shown = text(measured("perplexity", None), measured("perplexity", 31.2, "policy"))
    (row,) = [line for line in shown.splitlines() if "perplexity" in line]
    assert row.split()[1:] == ["-", "31.2"]


def test_a_run_without_measurements_has_no_table():
    assert Results().table() is None
