"""The inference process: asked over a pipe, withdrawn from, killed, silent."""

import inspect
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from acft.errors import AcftError, ModelError
from acft.inference.client import Inference, OperationError
from acft.inference.protocol import MAX_LINE, pack, unpack
from acft.inference.server import OPERATIONS, _find
from tests.fake_runs import wait_until
from tests.programs import ROOT

FAKE = (sys.executable, str(Path(__file__).with_name("fake_server.py")))


@pytest.fixture
def inference():
    made = Inference(command=FAKE)
    yield made
    made.close()


def test_every_operation_is_there_and_all_that_pages_ask_for_is_one():
    for place in OPERATIONS.values():
        assert next(iter(inspect.signature(_find(place)).parameters)) in ("session", "_")
    asked = re.compile(r"""\.(?:call|stream)\(\s*"(\w+)\"""")
    pages = [file.read_text() for file in (ROOT / "acft" / "ui").rglob("*.py")]
    named = {name for text in pages for name in asked.findall(text)}
    assert {"check", "outline", "launch_grid"} <= named <= OPERATIONS.keys()


def test_the_process_starts_when_first_asked_and_ends_when_closed(inference):
    assert not inference.is_running
    assert inference.call("echo", value=3) == 3
    assert inference.is_running
    inference.close()
    assert not inference.is_running


def test_what_an_operation_refuses_is_told_apart_from_the_end_of_its_process(inference):
    with pytest.raises(OperationError):
        inference.call("refuse")
    parts = inference.stream("forever")
    assert next(parts) == 0
    inference.close()
    with pytest.raises(ModelError, match="was ended"):
        list(parts)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("", "the inference process was ended; ask again"),
        ("run a was to start on cuda:0",
         "the inference process was ended, since run a was to start on cuda:0; ask again"),
    ],
)  # fmt: skip
def test_who_waits_for_a_process_that_is_ended_is_told_why(inference, reason, told):
    parts = inference.stream("forever")
    assert next(parts) == 0
    inference.close(reason)
    with pytest.raises(AcftError, match=f"^{re.escape(told)}$"):
        list(parts)
    assert not inference._reasons


def test_it_starts_again_after_it_was_released(inference):
    inference.call("echo", value=1)
    inference.close()
    assert inference.call("echo", value=2) == 2


def test_a_process_that_was_released_fails_nobody_who_asks_its_successor(inference):
    others = set(threading.enumerate())
    inference.call("echo", value=1)
    released, past = threading.Event(), inference._process
    (listening,) = set(threading.enumerate()) - others
    wait = past.wait

    def wait_long(seconds=None):
        if seconds is None:
            released.wait(20)
        return wait(seconds)

    past.wait = wait_long
    inference.close()
    parts = inference.stream("forever")
    assert next(parts) == 0
    released.set()
    listening.join(20)
    assert [next(parts), next(parts)] == [1, 2]


def test_partial_results_come_before_the_result(inference):
    def collected():
        seen.append((yield from inference.stream("count", to=3)))

    seen = []
    assert list(collected()) == [0, 1, 2]
    assert seen == ["done"]


def test_closing_the_stream_withdraws_the_request(inference):
    parts = inference.stream("forever")
    assert next(parts) == 0
    parts.close()
    assert inference.call("echo", value="free again") == "free again"


def test_a_request_given_up_before_its_turn_is_never_carried_out(inference, tmp_path):
    made, begun, outlasted = tmp_path / "made", tmp_path / "begun", []

    def go_before():
        outlasted.append(inference.call("outlast", begun=str(begun)))

    before = threading.Thread(target=go_before)
    before.start()
    wait_until(begun.exists)
    with pytest.raises(AcftError, match="no sign of life"):
        inference.call("touch", seconds=0.2, path=str(made))
    before.join(20)
    assert outlasted == [True]
    assert inference.call("echo", value="later") == "later"
    assert not made.exists()


def test_a_process_that_opens_a_run_for_nobody_any_longer_is_ended(inference):
    inference.call("echo", value=1)
    opening, withdrawn = inference._process, threading.Event()
    parts = inference.stream("sleep", withdrawn=withdrawn, until="/nowhere", run_id="a")
    threading.Timer(0.1, withdrawn.set).start()
    with pytest.raises(AcftError, match="withdrawn"):
        next(parts)
    assert opening.wait(20) == 0
    assert not inference.is_running
    assert inference.call("echo", value="anew") == "anew"


def test_a_process_that_others_wait_for_or_that_has_opened_the_run_goes_on(inference):
    assert inference.call("echo", value=1, run_id="a") == 1
    assert inference.has_opened("a")
    assert not inference.has_opened("b")
    process, withdrawn = inference._process, threading.Event()
    withdrawn.set()
    with pytest.raises(AcftError, match="withdrawn"):
        next(inference.stream("echo", withdrawn=withdrawn, value=2, run_id="a"))
    others = inference.stream("forever")
    assert next(others) == 0
    with pytest.raises(AcftError, match="withdrawn"):
        next(inference.stream("echo", withdrawn=withdrawn, value=3, run_id="b"))
    assert next(others) == 1
    assert inference._process is process


def test_a_late_answer_of_a_process_that_was_replaced_says_nothing_of_its_successor(inference):
    parts = inference.stream("count", to=2, run_id="a")
    assert next(parts) == 0
    [(_, answers)] = inference._answers.values()
    deadline = time.monotonic() + 20
    while answers.qsize() < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    inference.close()
    inference.call("echo", value=1)
    assert next(parts) == 1
    assert not inference.has_opened("a")


def test_opening_another_run_in_vain_gives_up_the_one_that_was_open(inference):
    inference.call("echo", value=1, run_id="a")
    with pytest.raises(AcftError, match="too long"):
        inference.call("refuse", run_id="a")
    assert inference.has_opened("a")
    with pytest.raises(AcftError, match="too long"):
        inference.call("refuse", run_id="b")
    assert not inference.has_opened("a")
    assert not inference.has_opened("b")


def test_one_that_died_with_something_unread_can_be_released(inference):
    parts = inference.stream("forever")
    next(parts)
    os.kill(inference.pid, signal.SIGKILL)
    inference._process.wait(20)
    parts.close()
    inference.close()
    assert inference.call("echo", value=1) == 1


def test_what_a_process_prints_is_kept_apart_and_its_place_told(inference):
    other = Inference(command=FAKE)
    with pytest.raises(AcftError, match="ZeroDivisionError"):
        inference.call("crash")
    other.call("echo", value=1)
    parts = inference.stream("forever")
    next(parts)
    os.kill(inference.pid, signal.SIGKILL)
    with pytest.raises(AcftError, match="see its log") as told:
        list(parts)
    other.close()
    log = Path(str(told.value).split()[-1])
    assert "ZeroDivisionError" in log.read_text("utf-8")
    inference.call("echo", value=1)  # a new process, with a log of its own
    assert "ZeroDivisionError" in log.read_text("utf-8")


def test_refusals_keep_their_sentence(inference):
    with pytest.raises(AcftError, match="the text is too long"):
        inference.call("refuse")


def test_defects_are_told_with_their_name(inference):
    with pytest.raises(AcftError, match="ZeroDivisionError"):
        inference.call("crash")
    assert inference.call("echo", value=1) == 1


def test_a_killed_process_is_reported_to_who_waits(inference):
    inference.call("echo", value=1)
    parts = inference.stream("forever")
    next(parts)
    os.kill(inference.pid, signal.SIGKILL)
    with pytest.raises(AcftError, match="ended with code -9"):
        for _ in parts:
            pass


def test_silence_is_an_error_after_its_time(inference):
    inference.call("echo", value=1)
    with pytest.raises(AcftError, match="no sign of life"):
        inference.call("sleep", seconds=0.1, until="/nowhere")


def test_what_an_operation_prints_does_not_disturb_the_answers(inference):
    assert inference.call("chatty") == "still fine"


def test_unknown_operations_are_refused(inference):
    with pytest.raises(AcftError, match="unknown operation 'eval'"):
        inference.call("eval", code="1")


@pytest.mark.parametrize("value", [float("nan"), "x" * MAX_LINE], ids=["nan", "long"])
def test_what_the_process_could_not_read_is_refused_and_does_not_deafen_it(inference, value):
    with pytest.raises(AcftError, match="'echo' cannot be asked: "):
        inference.call("echo", value=value)
    assert inference.call("echo", value="heard") == "heard"


def test_the_process_ends_with_its_workbench(inference):
    inference.call("echo", value=1)
    process = inference._process
    process.stdin.close()
    assert process.wait(20) == 0


def test_messages_are_single_lines_of_finite_numbers():
    assert unpack(pack({"text": "a\nb"})) == {"text": "a\nb"}
    assert pack({"text": "a\nb"}).count(b"\n") == 1
    with pytest.raises(ValueError, match="Out of range"):
        pack({"value": float("nan")})
    with pytest.raises(ValueError, match="bytes"):
        unpack(b" " * (MAX_LINE + 1))
    with pytest.raises(ValueError, match="no JSON object"):
        unpack(b"[1]")
