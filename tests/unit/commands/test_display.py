from acft import events
from acft.commands import _display
from acft.commands._display import Display
from acft.eventlog import Entry
from tests.fake_runs import create


def shown(display: Display, phase: str, done: int, round_index: int) -> None:
    event = events.Progress(phase, done, 10, round_index, "steps")
    display.show(Entry(1, 0.0, event))


def test_a_log_without_bars_gets_a_line_at_each_phase_and_now_and_then(
    tmp_path, capsys, monkeypatch
):
    moment = 100.0
    monkeypatch.setattr(_display.time, "monotonic", lambda: moment)
    with Display("title", create(tmp_path), 2) as display:
        shown(display, "fit_policy", 1, 1)
        shown(display, "fit_policy", 2, 1)
        moment += _display.LOG_SECONDS
        shown(display, "fit_policy", 7, 1)
        shown(display, "validate", 1, 1)
    lines = [line for line in capsys.readouterr().err.splitlines() if "/10" in line]
    told = [line.partition(",")[2].split(",")[0].strip() for line in lines]
    assert told == ["fit_policy 1/10", "fit_policy 7/10", "validate 1/10"]
