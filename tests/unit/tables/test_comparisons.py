"""Tables that compare rows with each other: win rates, detection curves, matched costs; figures."""

import fnmatch
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from acft.benchmarks.detection import report
from acft.benchmarks.harness import HarnessSettings
from acft.benchmarks.harness_totals import totals_of
from acft.benchmarks.results import Results
from acft.errors import ConfigError, DataError
from acft.evaluation import Label, measure, sweep
from acft.eventlog import EventWriter
from acft.events import Evaluated
from acft.methods.base import METHODS
from acft.runs.directory import create_run, write_status
from acft.runs.spec import load_spec, parse_spec
from acft.schema import Launch, RunPaths, Status
from acft.tables.collecting import Reported, origin_of
from acft.tables.experiment import Experiment, load_experiment
from acft.tables.figures import Mark, Series, intervals, plot, save
from acft.tables.matched import difference_at, knobs, matched_table, trade_off_figure
from acft.tables.members import VALIDATED, Member
from acft.tables.roc import roc_curves
from acft.tables.table import PROMPTS_ONLY, table_of
from acft.tables.win_table import win_table
from acft.totals import Totals, event_names
from acft.tradeoff import frontier
from tests.fake_responses import response
from tests.fake_runs import SPEC

ROOT = Path(__file__).parents[3]
EXPERIMENTS = sorted(file.parent.name for file in (ROOT / "experiments").glob("*/table.toml"))
JUDGED, HARM, COST = "nats_by_response", "rtp/judge toxic_share", "perplexity/x perplexity"


def measured(runs_dir: Path, suite: str, columns: dict[str, Totals]) -> RunPaths:
    paths = create_run(runs_dir, SPEC, Launch(created=0.0), Status(state="finished"))
    folder = paths.root / "checkpoints" / "round-1"
    folder.mkdir(parents=True)
    Results({suite: {"policy": columns}}).save(folder)
    write_status(paths, Status(state="finished", checkpoint="checkpoints/round-1"))
    EventWriter(paths.events).close()
    return paths


def by_response(*nats: float) -> Totals:
    names = tuple(f"p{index // 2}-{index % 2}" for index in range(len(nats)))
    return Totals(names, np.array(nats), np.ones(len(nats)))


def by_text(values: list[float]) -> Totals:
    names = tuple(map(str, range(len(values))))
    return Totals(names, np.array(values, float), np.ones(len(values)))


# --- win rates -----------------------------------------------------------------------------------


def test_the_column_wins_where_its_responses_are_likelier_and_ties_count_half(tmp_path):
    base = measured(tmp_path, "win_rate", {JUDGED: by_response(1.0, 1.0, 1.0, 1.0)})
    ours = measured(tmp_path, "win_rate", {JUDGED: by_response(0.5, 0.5, 1.0, 2.0)})
    told = origin_of([Member(base, "Base"), Member(ours, "Ours")])
    assert "n of each: win_rate 2;" in told, "two prompts, two responses to each"
    table = win_table([Member(base, "Base"), Member(ours, "Ours")], "another model")
    assert table is not None
    cells = {row.variant: row.cells for row in table.rows}
    assert cells["Base"]["Ours"].value == pytest.approx(0.625)
    assert cells["Ours"]["Base"].value == pytest.approx(0.375)
    assert "Base" not in cells["Base"], "nobody plays against itself"
    assert "another model" in table.markdown.splitlines()[-1]
    assert "% Win rate of the column" in table.latex


def test_seeds_of_two_rows_are_paired_and_a_single_run_meets_all_of_them(tmp_path):
    base = measured(tmp_path, "win_rate", {JUDGED: by_response(1.0, 1.0)})
    seeds = [measured(tmp_path, "win_rate", {JUDGED: by_response(n, n)}) for n in (0.5, 2.0)]
    table = win_table([Member(base, "Base"), *(Member(run, "Ours") for run in seeds)], "judge")
    assert table is not None
    assert (table.rows[0].cells["Ours"].value, table.rows[0].cells["Ours"].runs) == (0.5, 2)


def of_seed(runs_dir: Path, row: str, seed: int, nats: float) -> Member:
    run = measured(runs_dir, "win_rate", {JUDGED: by_response(nats, nats)})
    run.resolved.write_text(json.dumps({"settings": {"seed": seed}, "method": {}}))
    return Member(run, row)


def test_runs_are_paired_by_seed_and_one_without_a_partner_counts_for_nobody(tmp_path):
    base = [of_seed(tmp_path, "Base", seed, 10.0 + seed) for seed in (0, 1, 2)]
    ours = [of_seed(tmp_path, "Ours", seed, 11.5) for seed in (1, 2)]
    table = win_table([*base, *ours], "judge")
    assert table is not None
    cells = {row.variant: row.cells for row in table.rows}
    assert (cells["Base"]["Ours"].value, cells["Base"]["Ours"].runs) == (0.5, 2)
    assert (cells["Ours"]["Base"].value, cells["Ours"]["Base"].runs) == (0.5, 2)
    assert "unequal numbers of runs (Base 3, Ours 2)" in table.markdown


def test_runs_of_no_common_seed_are_paired_in_their_order_once_each(tmp_path):
    base = [of_seed(tmp_path, "Base", seed, 10.0) for seed in (0, 1, 2)]
    ours = [of_seed(tmp_path, "Ours", seed, 1.0) for seed in (3, 4)]
    table = win_table([*base, *ours], "judge")
    assert table is not None
    assert table.rows[0].cells["Ours"].runs == 2


def test_rows_whose_responses_answer_other_prompts_have_no_win_rate(tmp_path):
    base = measured(tmp_path, "win_rate", {JUDGED: by_response(1.0, 1.0)})
    other = Totals(("q0-0", "q0-1"), np.array([1.0, 1.0]), np.ones(2))
    ours = measured(tmp_path, "win_rate", {JUDGED: other})
    table = win_table([Member(base, "Base"), Member(ours, "Ours")], "judge")
    assert table is not None
    cell = table.rows[0].cells["Ours"]
    assert (cell.value, cell.low) == (None, None)
    assert table.markdown


def test_rows_that_other_weights_of_the_judge_judged_do_not_play(tmp_path):
    members = []
    for sha256, name in (("aa", "Base"), ("bb", "Ours")):
        run = measured(tmp_path, "win_rate", {JUDGED: by_response(1.0, 1.0)})
        method = {"suites": ["win_rate"], "options": {}, "judge": "a-model"}
        run.resolved.write_text(json.dumps({"method": method, "facts": {"judge_sha256": sha256}}))
        members.append(Member(run, name))
    with pytest.raises(DataError, match='SHA-256 of the judge = "aa", SHA-256 of the judge = "bb"'):
        win_table(members, "a-model")


def test_rows_that_answered_other_texts_do_not_play(tmp_path):
    members = []
    for sha256, name in (("aa", "Base"), ("bb", "Ours")):
        run = measured(tmp_path, "win_rate", {JUDGED: by_response(1.0, 1.0)})
        method = {"suites": ["win_rate"], "options": {}, "judge": "a-model"}
        texts = [
            {"name": f"{suite}: p.txt", "sha256": sha256 if suite == "win_rate" else name}
            for suite in ("win_rate", "rtp")
        ]
        run.resolved.write_text(json.dumps({"method": method, "facts": {"texts": texts}}))
        members.append(Member(run, name))
    with pytest.raises(DataError, match=r'win_rate: p\.txt = "aa", .* = "bb"\)'):
        win_table(members, "a-model")
    alike = members[0].paths.resolved.read_text().replace('"Base"', '"Ours"')
    members[1].paths.resolved.write_text(alike)  # what rtp read is no matter of the win rate
    assert win_table([Member(member.paths, member.variant) for member in members], "a-model")


def test_a_win_rate_is_never_above_one_however_few_seeds_there_are(tmp_path):
    loser = measured(tmp_path, "win_rate", {JUDGED: by_response(*[1.0] * 20)})
    winners = [
        measured(tmp_path, "win_rate", {JUDGED: by_response(*[0.5] * n, *[1.5] * (20 - n))})
        for n in (20, 12)
    ]
    table = win_table([Member(loser, "Base"), *(Member(w, "Ours") for w in winners)], "a model")
    assert table is not None
    (cell,) = (row.cells["Ours"] for row in table.rows if row.variant == "Base")
    assert (cell.value, cell.high) == (0.8, 1.0)


def test_before_anything_is_judged_there_is_no_table(tmp_path):
    assert win_table([Member(measured(tmp_path, "rtp", {}), "Base")], "judge") is None


def test_a_run_without_a_sealed_measurement_is_neither_judged_nor_a_detector(tmp_path):
    paths = create_run(tmp_path, SPEC, Launch(created=0.0), Status(state="finished"))
    members = [Member(paths, "Base")]
    assert win_table(members, "judge") is None
    assert roc_curves(members) == {}


# --- detection -----------------------------------------------------------------------------------


def test_a_perfect_detector_finds_all_before_it_errs_and_a_blind_one_errs_as_often(tmp_path):
    labels = by_text([0, 0, 1, 1])
    columns = {"label": labels, "probe": labels, "zero_shot": by_text([1, 1, 1, 1])}
    curves = roc_curves([Member(measured(tmp_path, "detection", columns), "Base")])
    assert curves["probe"]["Base"][0] == (0.0, 1.0)
    for wrong, right in curves["zero_shot"]["Base"]:
        assert right == pytest.approx(wrong)


def test_a_detector_without_an_error_on_few_texts_is_not_known_to_be_perfect():
    labels = by_text([0.0] * 30 + [1.0] * 10)
    columns = {"label": labels, "probe": labels, "zero_shot": labels}
    for event in report(columns, Label("detection", "policy")):
        assert (event.value, event.high, event.n) == (1.0, 1.0, 40)
        assert event.low == pytest.approx(0.722, abs=1e-3), "Wilson's for ten of ten"


def detected(
    runs_dir: Path, seed: int, probe: list[float], labels: tuple[float, ...] = (0, 1) * 20
) -> RunPaths:
    scores = by_text(probe)
    columns = {"label": by_text([*labels]), "probe": scores, "zero_shot": scores}
    run = measured(runs_dir, "detection", columns)
    writer = EventWriter(run.events)
    for event in report(columns, Label("detection", "policy", seed=seed)):
        writer.append(event)
    writer.close()
    return run


def test_detectors_are_compared_by_the_difference_of_their_aucs(tmp_path):
    rng = np.random.default_rng(0)
    blind = list(rng.random(40))
    runs = [Member(detected(tmp_path, 0, blind), "Base")]
    for seed in range(3):
        clear = [0.9 * (i % 2) + value for i, value in enumerate(rng.random(40))]
        runs.append(Member(detected(tmp_path, seed, clear), "Ours"))
    table = table_of(runs, against="Base")
    assert table is not None
    (row,) = table.rows
    cell = row.cells["detection auc_probe"]
    whole, other = table_of(runs), table_of(runs, against="Ours")
    assert whole is not None
    assert other is not None
    values = {r.variant: r.cells["detection auc_probe"].value or 0.0 for r in whole.rows}
    assert cell.value == pytest.approx(values["Ours"] - values["Base"])
    assert cell.low is not None
    assert cell.high is not None
    assert (cell.runs, cell.verdict, cell.is_change) == (3, "higher", False)
    assert cell.text.startswith("+0.")
    assert "detection auc_probe" in table.caption
    assert (
        "difference instead, equivalent within 10% of what Base has beyond chance" in table.caption
    )
    turned = other.rows[0].cells["detection auc_probe"]
    assert (turned.low, turned.high) == (pytest.approx(-cell.high), pytest.approx(-cell.low))


@pytest.mark.parametrize(("margin", "is_equivalent"), [(0.1, False), (0.4, True)])
def test_a_margin_of_detectors_is_a_share_of_what_the_reference_has_beyond_chance(
    tmp_path, margin, is_equivalent
):
    rng = np.random.default_rng(0)
    base = [0.5 * (i % 2) + value for i, value in enumerate(rng.random(40))]
    less = [value - 0.03 * (i % 2) for i, value in enumerate(base)]
    runs = [
        Member(detected(tmp_path, 0, base), "Base"),
        Member(detected(tmp_path, 0, less), "Less"),
    ]
    whole, table = table_of(runs), table_of(runs, against="Base", margin=margin)
    assert whole is not None
    assert table is not None
    skill = (whole.rows[0].cells["detection auc_probe"].value or 0.0) - 0.5
    cell = table.rows[0].cells["detection auc_probe"]
    assert cell.low is not None
    assert 0.1 * skill < -cell.low < min(0.1, 0.4 * skill), "between the two margins, below .1"
    assert (cell.verdict == "equivalent") is is_equivalent


def test_a_reference_below_chance_has_nothing_of_which_a_margin_could_be_a_share(tmp_path):
    rng = np.random.default_rng(0)
    base = [value - 0.5 * (i % 2) for i, value in enumerate(rng.random(40))]
    less = [value - 0.001 * (i % 2) for i, value in enumerate(base)]
    runs = [
        Member(detected(tmp_path, 0, base), "Base"),
        Member(detected(tmp_path, 0, less), "Less"),
    ]
    whole, table = table_of(runs), table_of(runs, against="Base", margin=10.0)
    assert whole is not None
    assert table is not None
    auc = whole.rows[0].cells["detection auc_probe"].value
    assert auc is not None
    assert auc < 0.4
    assert table.rows[0].cells["detection auc_probe"].verdict != "equivalent"


def test_what_compares_detectors_with_base_is_not_compared_once_more(tmp_path):
    members = []
    for row in ("Base", "Ours"):
        run = detected(tmp_path, 0, list(np.linspace(0.0, 1.0, 40)))
        writer = EventWriter(run.events)
        writer.append(Evaluated("detection", "auc_probe_difference", "policy", 0.1, 40))
        writer.close()
        members.append(Member(run, row))
    with pytest.raises(DataError, match="compared with base already; leave out --against"):
        table_of(members, ["*_difference"], against="Base")


def test_detectors_of_texts_that_were_labelled_otherwise_are_not_compared(tmp_path):
    scores = list(np.random.default_rng(0).random(40))
    base = Member(detected(tmp_path, 0, scores), "Base")
    ours = Member(detected(tmp_path, 0, scores, (1, 1, *(0, 1) * 19)), "Ours")
    with pytest.raises(DataError, match="texts of detection were labelled otherwise"):
        table_of([base, ours], against="Base")


def test_curves_of_several_seeds_are_averaged(tmp_path):
    labels, inverse = by_text([0, 1]), by_text([1, 0])
    runs = [
        measured(tmp_path, "detection", {"label": labels, "probe": scores})
        for scores in (labels, inverse)
    ]
    curve = roc_curves([Member(run, "Ours") for run in runs])["probe"]["Ours"]
    assert curve[50] == pytest.approx((0.5, 0.5))


# --- matched costs -------------------------------------------------------------------------------


def seen(value: float, totals: Totals | None = None) -> list[Reported]:
    return [Reported(Evaluated("s", "m", "policy", value, 4), totals)]


def setting(cost: float, *harms: float) -> dict[str, list[Reported]]:
    totals = Totals(tuple("abcd"), np.array(harms), np.ones(4))
    return {COST: seen(cost), HARM: seen(float(np.mean(harms)), totals)}


FOUND = {
    ("Ours 1", "policy"): setting(10.0, 0.2, 0.2, 0.2, 0.2),
    ("Ours 2", "policy"): setting(12.0, 0.0, 0.0, 0.1, 0.1),
    ("Other", "policy"): setting(11.0, 0.4, 0.4, 0.4, 0.4),
    ("Unmeasured", "policy"): {COST: seen(9.0)},
    ("Other", "base"): setting(1.0, 0.0, 0.0, 0.0, 0.0),
}
FAMILIES = {"Ours 1": ("Ours",), "Ours 2": ("Ours",), "Other": ("Other",), "Unmeasured": ("Other",)}


def test_methods_are_compared_at_costs_that_both_reach_with_intervals():
    table = matched_table(FOUND, FAMILIES, [HARM], [COST], "Ours", 0.1)
    assert table is not None
    first = table.rows[0]
    assert (first.variant, first.subject) == (f"Other: {HARM}", f"{COST} 11")
    cell = first.cells["difference"]
    assert first.cells["Ours"].value == pytest.approx(0.125)
    assert cell.value == pytest.approx(0.125 - 0.4)
    low, value, high = cell.low or 0.0, cell.value or 0.0, cell.high or 0.0
    assert low <= value <= high < 0
    assert cell.verdict == "lower"
    assert table.caption.endswith("Ours is lower (prompts only) 2 times against Other.")
    assert PROMPTS_ONLY in table.caption
    assert "no independent wins" in table.caption


def test_a_share_of_none_is_not_taken_as_known_exactly():
    found = {
        ("Ours", "policy"): setting(10.0, 0.0, 0.0, 0.0, 0.0),
        ("Other", "policy"): setting(10.0, 0.0, 0.0, 0.0, 0.0),
    }
    table = matched_table(
        found, {"Ours": ("Ours",), "Other": ("Other",)}, [HARM], [COST], "Ours", 0.1
    )
    assert table is not None
    cell = table.rows[0].cells["difference"]
    assert (cell.low or 0.0) < 0.0 < (cell.high or 0.0)
    assert cell.verdict == "undecided"


def test_a_matched_value_tells_the_runs_of_the_setting_that_has_fewest():
    seeds = dict(FOUND)
    for name, n in {"Ours 1": 3, "Ours 2": 2, "Other": 4}.items():
        seeds[name, "policy"] = {k: v * n for k, v in FOUND[name, "policy"].items()}
    table = matched_table(seeds, FAMILIES, [HARM], [COST], "Ours", 0.1)
    assert table is not None
    cells = table.rows[0].cells
    assert [cells[name].runs for name in ("Ours", "other", "difference")] == [2, 4, 2]
    assert table.caption.endswith("Ours is lower 2 times against Other.")
    assert PROMPTS_ONLY not in table.caption


def test_costs_that_were_not_measured_alike_match_nothing():
    found = {row: dict(cells) for row, cells in FOUND.items()}
    for row, n in (("Ours 1", "8"), ("Other", "25")):
        (only,) = found[row, "policy"][HARM]
        found[row, "policy"][HARM] = [replace(only, protocol={"continuations": n})]
    with pytest.raises(DataError, match="continuations = 25, continuations = 8"):
        matched_table(found, FAMILIES, [HARM], [COST], "Ours", 0.1)


def test_without_a_setting_of_ours_nothing_is_matched():
    assert matched_table(FOUND, {"Other": ("Other",)}, [HARM], [COST], "Ours", 0.1) is None


LIMIT = {
    ("Base", "policy"): setting(10.0, 0.4, 0.2, 0.2, 0.0),
    ("Ours 1", "policy"): setting(12.0, 0.0, 0.0, 0.1, 0.1),
    ("Other 1", "policy"): setting(14.0, 0.1, 0.1, 0.1, 0.1),
}
LIMITED = {"Base": ("Ours", "Other"), "Ours 1": ("Ours",), "Other 1": ("Other",)}


def test_a_setting_of_two_methods_is_a_point_of_each_and_not_compared_with_itself():
    table = matched_table(LIMIT, LIMITED, [HARM], [COST], "Ours", 0.1)
    assert table is not None
    # at 10 both are the base; at 12 the other is half of it: (0.2 + 0.1) / 2
    values = [(r.subject, r.cells["Ours"].value, r.cells["other"].value) for r in table.rows]
    assert [subject for subject, *_ in values] == [f"{COST} 12", f"{COST} 14"]
    assert [pair for _, *pair in values] == [
        [pytest.approx(0.05), pytest.approx(0.15)], [pytest.approx(0.05), pytest.approx(0.1)],
    ]  # fmt: skip
    assert [row.cells["difference"].value for row in table.rows] == [
        pytest.approx(-0.1), pytest.approx(-0.05),
    ]  # fmt: skip
    assert "Ours of 2, Other of 2" in table.caption
    assert "Base is one setting of Ours, Other and not compared with itself" in table.caption


def test_a_shared_setting_varies_once_for_both_methods():
    found = dict(LIMIT)
    for name, harms in {"Base": (0.1, 0.3), "Ours 1": (0.05,), "Other 1": (0.1,)}.items():
        cost = LIMIT[name, "policy"][COST]
        runs = [setting(0.0, *[harm] * 4)[HARM][0] for harm in harms]
        found[name, "policy"] = {COST: cost, HARM: runs}
    ours, other = knobs(found, LIMITED, HARM, COST)
    value = difference_at(ours, other, 11.0, are_shares=False)
    # half of the base against three quarters: 0.5·0.05 - 0.25·0.2 - 0.25·0.1, and a quarter of
    # the base's error, which over 0.1 and 0.3 is 0.1
    assert value.value == pytest.approx(-0.05)
    assert value.stderr == pytest.approx(0.25 * 0.1, rel=0.1)
    assert difference_at(ours, other, 10.0, are_shares=False).value is None, "the same runs"


def test_one_measurement_of_what_is_not_trained_leaves_no_training_out():
    found = {row: dict(cells) for row, cells in LIMIT.items()}
    found["Other 1", "policy"][HARM] = found["Other 1", "policy"][HARM] * 2
    found["Ours 1", "policy"][HARM] = found["Ours 1", "policy"][HARM] * 3
    families = {**LIMITED, "Base": ("Other",)}
    trained = matched_table(found, families, [HARM], [COST], "Ours", 0.1)
    (base,) = found["Base", "policy"][HARM]
    found["Base", "policy"][HARM] = [replace(base, is_trained=False)]
    untrained = matched_table(found, families, [HARM], [COST], "Ours", 0.1)
    assert trained is not None
    assert untrained is not None
    cells = [table.rows[0].cells["difference"] for table in (trained, untrained)]
    assert [(cell.runs, cell.is_prompts_only) for cell in cells] == [(1, True), (2, False)]


def test_a_judge_that_trained_is_named_and_the_others_are_counted_alone():
    trainer = "rtp/trainer toxic_share"
    found = {row: {**cells, trainer: cells.get(HARM, [])} for row, cells in FOUND.items()}
    table = matched_table(found, FAMILIES, [HARM, trainer], [COST], "Ours", 0.1, {"trainer"})
    assert table is not None
    assert len(table.rows) == 4
    assert "Ours is lower (prompts only) 4 times against Other; " in table.caption
    assert f"trained on, as its scorer trains or steers these methods: {trainer};" in table.caption
    assert table.caption.endswith(
        "judges that did not train: Ours is lower (prompts only) 2 times against Other."
    )
    alone = matched_table(found, FAMILIES, [trainer], [COST], "Ours", 0.1, {"trainer"})
    assert alone is not None
    assert alone.caption.endswith("judges that did not train: there are none.")


def test_the_caption_of_matched_rows_counts_the_prompts_of_no_single_category(tmp_path):
    run = measured(tmp_path, "rtp", {})
    writer = EventWriter(run.events)
    for metric, n in (("toxic_share", 100), ("toxic_share@x", 7), ("toxic_share_change", 50)):
        writer.append(Evaluated("rtp/judge", metric, "policy", 0.2, n))
    writer.close()
    told = origin_of([Member(run, "Ours")], ("Ours", "other", "difference"))
    assert "n of each: rtp/judge 100;" in told


def test_settings_that_lack_a_measurement_and_other_subjects_are_no_points():
    points = {k.family: [p.label for p in k.points] for k in knobs(FOUND, FAMILIES, HARM, COST)}
    assert points == {"Ours": ["Ours 1", "Ours 2"], "Other": ["Other"]}


# --- figures -------------------------------------------------------------------------------------


ODD = Mark(1.0, 2.0, 2.5, 3.0, "$it_")  # the interval lies beside the value


@pytest.mark.parametrize(
    "drawn",
    [
        lambda: plot([Series("a < b, $x", [ODD], [(0.0, 1.0), (1.0, 2.0)])], "cost & co", "h $\\"),
        lambda: plot([], "x", "y"),
        lambda: intervals([("Base_$", ODD), ("No ends", Mark(0.5, 0.5))], "share"),
        lambda: trade_off_figure(knobs(FOUND, FAMILIES, HARM, COST), COST, HARM),
    ],
)
def test_a_figure_is_the_same_two_files_whatever_the_names(drawn, tmp_path):
    first, second = (
        {file.suffix: file.read_bytes() for file in save(drawn(), tmp_path / name)}
        for name in ("at 0.5", "again")
    )
    assert first == second
    assert ElementTree.fromstring(first[".svg"]).tag.endswith("svg")
    assert first[".pdf"].startswith(b"%PDF")


def test_an_interval_without_a_limit_is_drawn_up_to_the_border():
    rows = [("a", Mark(0.5, 0.5, 0.2, None)), ("b", Mark(0.1, 0.1, 0.0, 0.9))]
    axes = intervals(rows, "change").axes[0]
    drawn = [np.asarray(line.get_xdata()).tolist() for line in axes.lines]
    assert [0.2, axes.get_xlim()[1]] in drawn


def test_every_series_is_named_once():
    curve, dots = [(0.0, 0.0), (1.0, 1.0)], [Mark(0.5, 0.5)]
    series = [Series("curve", (), curve), Series("dots", dots), Series("both", dots, curve)]
    (axes,) = plot(series, "x", "y").axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["curve", "dots", "both"]


def test_every_method_has_its_dots_and_its_line():
    (axes,) = trade_off_figure(knobs(FOUND, FAMILIES, HARM, COST), COST, HARM).axes
    dots, lines = axes.lines[::2], axes.lines[1::2]
    found = {knob.family: knob for knob in knobs(FOUND, FAMILIES, HARM, COST)}
    for family, dot, line in zip(found, dots, lines, strict=True):
        points = [[point.cost, point.harm] for point in found[family].points]
        assert dot.get_label() == family
        assert np.array_equal(dot.get_xydata(), points)
        front = [[point.cost, point.harm] for point in frontier(found[family].points)]
        assert np.array_equal(line.get_xydata(), front)


# --- the experiments that come with the project ---------------------------------------------------


@pytest.fixture
def _all_methods(monkeypatch):
    """Other tests of this folder know a fake method only."""
    monkeypatch.setattr(METHODS, "_is_discovered", False)


@pytest.mark.usefixtures("_all_methods")
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_size_of_every_table_is_possible(name, tmp_path):
    folder = ROOT / "experiments" / name
    for variant in load_experiment(folder).settings.variants:
        found = load_experiment(folder, variant).progress(tmp_path)
        assert found.ready
        assert len({task.spec.fingerprint for task in found.ready}) == len(found.ready)


def emitted(experiment: Experiment) -> set[str]:
    """Columns that the suites of a size have."""
    variant, suites = experiment.variant, experiment.variant.suites
    run = parse_spec(experiment.text, variant.changes).settings
    scorers = variant.scorers or run.evaluation.scorers
    scores: dict[str, Any] = dict.fromkeys(scorers, 0.1)
    scored = [response("p", **scores)]
    by_scorer = measure(scored, scorers)
    corpora = [c.source for c in run.corpus if c.domain == "general"] + ["brown"]
    tasks = HarnessSettings.parse(variant.options.get("harness", {})).tasks
    answered = {"doc_id": 0, "target": 0, "filtered_resps": [(-1.0, True), (-2.0, False)],
                "metrics": ["acc", "acc_norm"], "acc": 1.0, "acc_norm": 1.0}  # fmt: skip
    texts = {name: by_text([0, 1]) for name in ("label", "probe", "zero_shot")}
    names = {
        "rtp": {*by_scorer, *sweep(scored, scorers)},
        "toxigen": {name for name in by_scorer if name.startswith("toxic_share/")},
        "perplexity": {
            f"{quantity}/{corpus}"
            for corpus in corpora
            for quantity in ("perplexity", "mean_perplexity", "bits_per_byte")
        },
        "divergence": {"kl_subject_base"},
        "harness": {name for task in tasks for name in totals_of({"part": [answered]}, task)},
    }
    spent = {"trained_tokens", *(f"sampled_tokens/{use}" for use in ("training", "measuring"))}
    spent |= {f"seconds/{doing}" for doing in ("loading", "training", "measuring")}
    spent |= {f"texts/{table['scorer']}" for table in run.constraint}
    return {
        *(" ".join(event_names(suite, name)) for suite in suites for name in names.get(suite, ())),
        *(f"{e.suite} {e.metric}" for e in report(texts, Label("detection", "policy"))
          if "detection" in suites),
        *(f"budget {name}" for name in spent),
        *(f"validation {name}" for name in VALIDATED),
    }  # fmt: skip


@pytest.mark.usefixtures("_all_methods")
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_column_of_every_table_is_one_that_its_suites_have(name):
    folder = ROOT / "experiments" / name
    for variant in load_experiment(folder).settings.variants:
        experiment = load_experiment(folder, variant)
        settings, columns = experiment.settings, emitted(experiment)
        for pattern in (*experiment.variant.columns, *settings.harms, *settings.costs):
            assert fnmatch.filter(columns, pattern), (variant, pattern)


@pytest.mark.usefixtures("_all_methods")
def test_tables_of_one_size_share_their_runs(tmp_path):
    def trained(name: str) -> set[str]:
        experiment = load_experiment(ROOT / "experiments" / name, "quickstart")
        ready = experiment.progress(tmp_path).ready
        return {task.spec.fingerprint for task in ready if not task.is_evaluation}

    assert trained("table_b") <= trained("table_a")
    assert trained("table_c") <= trained("table_a")


@pytest.mark.parametrize(
    ("family", "says"),
    [
        ('["A", "A"]', r"rows\.0\] family: 'A' stands there twice"),
        ('["A", ""]', "a name is empty"),
        ('["A", "C"]', r"ours is 'B', families: A, C"),
        ("0", "family = 0: should be a list"),
        ("false", "family = False: should be a list"),
    ],
)
def test_a_family_that_says_nothing_is_refused(tmp_path, family, says):
    (tmp_path / "settings.toml").write_text("")
    (tmp_path / "table.toml").write_text(
        f'title = "t"\nkind = "matched"\nharms = ["h"]\ncosts = ["c"]\nours = "B"\n'
        f'[[rows]]\nname = "Base"\nis_base = true\nfamily = {family}\n'
        '[variants.one]\nfile = "settings.toml"\n'
    )
    with pytest.raises(ConfigError, match=says) as caught:
        load_experiment(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.usefixtures("_all_methods")
def test_the_frontiers_caption_names_the_harm_whose_scorer_trains(tmp_path):
    experiment = load_experiment(ROOT / "experiments" / "frontier", "quickstart")
    members = []
    # the harms of a row are one number, and so are its costs
    for row, (harm, cost) in {"Base": (0.4, 0.1), "Ours, kl_weight 3": (0.2, 0.2)}.items():
        run = measured(tmp_path, "rtp", {})
        numbers = dict.fromkeys(experiment.settings.harms, harm)
        numbers |= dict.fromkeys(experiment.settings.costs, cost)
        writer = EventWriter(run.events)
        for column, value in numbers.items():
            suite, metric = column.split(" ")
            writer.append(Evaluated(suite, metric, "policy", value, 4))
        writer.close()
        members.append(Member(run, row))
    table = experiment._matched(members, 0.1)
    assert table is not None
    assert "these methods: rtp/jigsaw_toxblock toxic_share;" in table.caption


@pytest.mark.usefixtures("_all_methods")
def test_the_recipes_own_weight_is_a_setting_of_the_frontier():
    weight = load_spec(ROOT / "experiments" / "quickstart.toml").values["method.kl_weight"]
    rows = load_experiment(ROOT / "experiments" / "frontier", "quickstart").settings.rows
    ours = [row.changes for row in rows if row.family == ("Ours",)]
    assert (f"method.kl_weight={weight}",) in ours


@pytest.mark.usefixtures("_all_methods")
def test_what_any_knob_ends_at_is_a_setting_of_several_methods():
    rows = load_experiment(ROOT / "experiments" / "frontier", "quickstart").settings.rows
    limits = {row.name: row.family for row in rows if len(row.family) > 1}
    plain = {row.name for row in rows if row.is_base and not row.decoder}
    plain |= {row.name for row in rows if row.changes == ('method={name="sft"}',)}
    assert len(plain) == 2
    assert plain == limits.keys()
    assert limits["Base"] == ("RL", "DPO", "NADO decoding")
    assert {"Ours", "Filtering"} < {*limits["SFT (control)"]}


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("win_rate", "needs judge"),
        ("matched", "needs harms, costs"),
        ('measurements"\nharms = ["rtp*"]\nours = "Ours', "harms, costs, ours and family have no"),
    ],
)
def test_a_kind_of_table_without_what_it_needs_is_refused(tmp_path, kind, says):
    (tmp_path / "settings.toml").write_text("")
    (tmp_path / "table.toml").write_text(
        f'title = "t"\nkind = "{kind}"\n[[rows]]\nname = "Base"\nis_base = true\n'
        '[variants.one]\nfile = "settings.toml"\n'
    )
    with pytest.raises(ConfigError, match=says):
        load_experiment(tmp_path)
