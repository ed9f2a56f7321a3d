import sys
import threading
from types import SimpleNamespace

import pytest

from acft.errors import ConfigError
from acft.events import Note, Scalars
from acft.runs import mirror
from acft.runs.mirror import CLIENTS, MAX_FAILURES, Mirror, Target, open_mirror, require_clients


class FakeClient:
    def __init__(self, fails_at=()):
        self.sent = []
        self.calls = 0
        self.is_closed = False
        self._fails_at = set(fails_at)

    def log(self, step, values):
        self.calls += 1
        if step in self._fails_at:
            raise RuntimeError("no connection")
        self.sent.append((step, values))

    def close(self):
        self.is_closed = True


@pytest.fixture
def target(tmp_path):
    return Target("run-1", tmp_path, settings={"seed": 3})


def numbers(step):
    return Scalars(1, step, {"policy/ce": float(step)})


def test_numbers_arrive_in_order_and_the_client_is_closed(target):
    client = FakeClient()
    sent = Mirror([lambda _: client], target)
    for step in range(5):
        sent.take(numbers(step))
    sent.take(Note("info", "not a number"))
    assert sent.close()
    assert [step for step, _ in client.sent] == [0, 1, 2, 3, 4]
    assert client.is_closed
    assert (sent.problems, sent.n_dropped) == ([], 0)


def test_a_failing_client_is_noted_and_does_not_disturb_the_other(target):
    good, bad = FakeClient(), FakeClient(fails_at=[1])
    sent = Mirror([lambda _: bad, lambda _: good], target)
    for step in range(3):
        sent.take(numbers(step))
    assert sent.close()
    assert [step for step, _ in good.sent] == [0, 1, 2]
    assert [step for step, _ in bad.sent] == [0, 2]
    assert sent.problems == ["a mirror did not take step 1: RuntimeError: no connection"]


def test_a_client_that_always_fails_is_given_up(target):
    client = FakeClient(fails_at=range(100))
    sent = Mirror([lambda _: client], target)
    for step in range(100):
        sent.take(numbers(step))
    assert sent.close()
    assert client.calls == MAX_FAILURES
    assert len(sent.problems) == MAX_FAILURES


def test_a_client_that_cannot_be_opened_or_closed_is_a_sentence(target):
    def refuse(_):
        raise OSError("offline")

    class Unclosable(FakeClient):
        def close(self):
            raise OSError("still offline")

    client = Unclosable()
    sent = Mirror([refuse, lambda _: client], target)
    sent.take(numbers(1))
    assert sent.close()
    assert client.sent
    assert sent.problems[0] == "a mirror could not be opened: OSError: offline"
    assert "did not close: OSError" in sent.problems[1]


def test_a_hanging_client_costs_nothing_but_its_numbers(target):
    released = threading.Event()

    class Hanging(FakeClient):
        def log(self, step, values):
            released.wait(60)

    sent = Mirror([lambda _: Hanging()], target, size=4)
    for step in range(100):
        sent.take(numbers(step))
    assert sent.n_dropped >= 95
    assert not sent.close(seconds=0.05)
    released.set()


def test_module_clients_are_called_as_they_expect(target, monkeypatch):
    calls = []
    module = SimpleNamespace(
        init=lambda **options: calls.append(("init", options)),
        log=lambda values, step: calls.append(("log", values, step)),
        finish=lambda: calls.append(("finish",)),
    )
    monkeypatch.setitem(sys.modules, "trackio", module)
    sent = open_mirror(["trackio"], target)
    sent.take(numbers(7))
    assert sent.close()
    assert sent.problems == []
    assert calls[0][1]["name"] == "run-1"
    assert calls[0][1]["config"] == {"seed": 3}
    assert calls[1:] == [("log", {"policy/ce": 7.0}, 7), ("finish",)]


class WandBOfSteps:
    """Ignores what is logged against a lower step than the last, as the real one does."""

    def __init__(self):
        self.step, self.taken, self.drawn_over = 0, [], {}

    def init(self, **options):
        self.options = options

    def define_metric(self, name, step_metric):
        self.drawn_over[name] = step_metric

    def log(self, values, step=None):
        step = self.step + 1 if step is None else step
        if step >= self.step:
            self.step = step
            self.taken.append(values)

    def finish(self):
        pass


def test_weights_and_biases_loses_nothing_where_our_steps_go_back(target, monkeypatch):
    module = WandBOfSteps()
    monkeypatch.setitem(sys.modules, "wandb", module)
    sent = open_mirror(["wandb"], target)
    for step in (20, 1, 2, 20):
        sent.take(numbers(step))
    assert sent.close()
    assert sent.problems == []
    assert [values["step"] for values in module.taken] == [20, 1, 2, 20]
    assert module.drawn_over == {"*": "step"}
    assert (module.options["id"], module.options["resume"]) == ("run-1", "allow")


def test_tensorboard_gets_one_scalar_for_each_number(target, monkeypatch):
    calls = []

    class Writer:
        def __init__(self, folder):
            calls.append(folder)

        def add_scalar(self, name, value, step):
            calls.append((name, value, step))

        def close(self):
            calls.append("closed")

    module = SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    sent = open_mirror(["tensorboard"], target)
    sent.take(numbers(7))
    assert sent.close()
    assert calls == [str(target.folder / "tensorboard"), ("policy/ce", 7.0, 7), "closed"]


def test_unknown_and_missing_trackers_are_told_before_a_run_starts(monkeypatch):
    with pytest.raises(ConfigError, match="unknown mirror 'wandbb'"):
        require_clients(["wandbb"])
    monkeypatch.setattr(mirror.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        require_clients(["wandb"])
    monkeypatch.setattr(mirror.importlib.util, "find_spec", lambda _: object())
    require_clients(list(CLIENTS))
