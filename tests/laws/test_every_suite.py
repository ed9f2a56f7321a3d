"""What every registered suite promises."""

import functools
import json

import pytest

from acft.benchmarks.base import DRAWN, JUDGED, READ, SUITES, Responses
from acft.config import Config
from acft.evaluation import Label
from acft.events import Evaluated, Event, Progress, to_json
from acft.policy import base_policy
from acft.totals import Totals
from tests.bench import bench_of, finish, run_settings, tiny_model

QUICK = {
    "rtp": {"prompts": 2, "continuations": 2, "horizon": 3},
    "toxigen": {"source": "inline:one two\nthree four", "horizon": 3},
    "perplexity": {"documents": 3},
    "fluency": {"prompts": 2, "continuations": 2, "horizon": 3},
    "win_rate": {"prompts": 2, "continuations": 2, "horizon": 3},
    "collateral": {"source": "inline:one two\nthree four", "continuations": 1, "horizon": 3},
    "detection": {},
    "divergence": {"prompts": 2, "continuations": 2, "horizon": 3},
}
"""Settings that finish in a moment; a suite that is not here needs something a test has not."""

COMPARED_ALREADY = {"divergence"}
"""Suites whose numbers compare with base themselves."""
UNJUDGED = {"divergence"}
"""Suites whose responses no scorer judges, so that nobody keeps them."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A run, and the settings of each suite there."""
    folder = tmp_path_factory.mktemp("model")
    texts = [{"text": f"text {i}", "category": ["clean", "toxic"][i % 2]} for i in range(12)]
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, texts)))

    def chosen(name: str):
        source = {"source": str(folder / "texts.jsonl")} if name == "detection" else {}
        return SUITES.get(name).settings_type.parse(QUICK[name] | source)

    return run_settings(tiny_model(folder)), chosen


@pytest.fixture(scope="module")
def measured_twice(world):
    run, chosen = world
    policy = base_policy(run)

    @functools.cache
    def measure(name: str):
        results = []
        for _ in range(2):
            bench = bench_of(run, policy=policy, get_judge=lambda: policy)
            results.append(finish(SUITES.get(name).run(chosen(name), bench)))
        return results

    return measure


@pytest.mark.parametrize("name", SUITES.names())
def test_it_says_what_it_measures_and_each_setting_says_what_it_does(name) -> None:
    suite = SUITES.get(name)
    assert suite.summary.endswith(".")
    assert issubclass(suite.settings_type, Config)
    assert all(field.description for field in suite.settings_type.model_fields.values())
    suite.settings_type()


@pytest.mark.parametrize("name", sorted(QUICK))
def test_it_does_what_it_said_before_it_would_do_at_most(name, world, measured_twice) -> None:
    run, chosen = world
    said = {unit: n for (unit, _), n in SUITES.get(name).work(chosen(name), run).items()}
    (outputs, _), _ = measured_twice(name)
    ends = [o for o in outputs if isinstance(o, Progress) and o.done == o.total]
    drawn = sum(o.total for o in ends if (o.phase, o.unit) == ("evaluate", "responses"))
    kept = sum(len(output.scored) for output in outputs if isinstance(output, Responses))
    judged = sum(o.total for o in ends if o.phase == "judge")
    read = sum(o.total for o in ends if o.unit in ("documents", "texts"))
    assert said
    assert (said.get(DRAWN, 0), said.get(JUDGED, 0)) == (drawn, judged)
    assert kept == (0 if name in UNJUDGED else drawn)
    assert min(read, 1) <= said.get(READ, 0) >= read


@pytest.mark.parametrize("name", sorted(QUICK))
def test_the_same_bench_gives_the_same_numbers(name, measured_twice) -> None:
    (_, first), (_, second) = measured_twice(name)
    assert first.keys() == second.keys()
    assert first
    for key, totals in first.items():
        assert totals.to_json() == second[key].to_json()


@pytest.mark.parametrize("name", sorted(QUICK))
def test_what_it_yields_can_be_written_and_what_it_returns_read_back(name, measured_twice) -> None:
    (outputs, measured), _ = measured_twice(name)
    for event in outputs:
        if isinstance(event, Event):
            assert to_json(event, 1, 0.0)
    for totals in measured.values():
        again = Totals.from_json(json.loads(json.dumps(totals.to_json())))
        assert again.to_json() == totals.to_json()


@pytest.mark.parametrize("name", sorted(QUICK.keys() - COMPARED_ALREADY))
def test_a_policy_compared_with_itself_shows_no_change(name, measured_twice) -> None:
    (_, measured), _ = measured_twice(name)
    suite, label = SUITES.get(name), Label(name, "policy")
    events = suite.compare(measured, measured, label)
    assert events
    for event in events:
        assert isinstance(event, Evaluated)
        expected = {"win_rate": 0.5, "tie_share": 1.0}.get(event.metric, 0.0)
        assert event.value in (None, pytest.approx(expected))


@pytest.mark.parametrize("name", sorted(QUICK))
def test_its_report_names_the_suite_and_the_subject(name, measured_twice) -> None:
    (_, measured), _ = measured_twice(name)
    for event in SUITES.get(name).report(measured, Label(name, "base")):
        assert event.subject == "base"
        assert event.suite.split("/")[0] == name
