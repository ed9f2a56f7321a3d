"""Live results: who may ask, progressive answers, one side failing, values of tokens."""

import re
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import pytest

from acft.errors import AcftError, ConfigError, DataError, ModelError
from acft.events import BestCheckpoint
from acft.inference.client import Inference, OperationError
from acft.inference.obtaining import Obtaining
from acft.store.queries.tokens import guidance, sequences
from acft.ui.app import _give_way
from acft.ui.pages import tokens as tokens_page
from acft.ui.parts import live, live_compare, live_tokens
from acft.ui.web.dom import text_of
from acft.ui.web.guard import Bind
from tests.ui.conftest import LIVE, LIVE_ANSWER, LIVE_ROW, QUICK, FakeModelProcess, visit
from tests.ui.test_filters import nodes


def run_of(bench):
    run = bench.reader.run(QUICK)
    for name in ("round-1", "round-2", "round-3"):
        (run.paths.checkpoints / name).mkdir(exist_ok=True)
    return run


def test_who_only_looks_may_not_use_the_processor(bench):
    with pytest.raises(AcftError, match="may look"):
        live.ask(bench, visit(QUICK), "score", run_of(bench))


def test_visitors_of_a_space_may_ask_for_live_results_where_the_model_is(bench, monkeypatch):
    space = replace(bench, bind=Bind(is_demo=True, is_space=True))
    monkeypatch.setattr(live, "is_ready", lambda: True)
    assert live.ask(space, visit(QUICK), "score", run_of(bench))["rows"]
    monkeypatch.setattr(live, "is_ready", lambda: False)
    with pytest.raises(AcftError, match="need the packaged model"):
        live.ask(space, visit(QUICK), "score", run_of(bench))


def test_a_space_that_obtains_the_model_offers_live_answers_for_later(bench, monkeypatch):
    monkeypatch.setattr(live, "is_ready", lambda: False)
    monkeypatch.setattr(Obtaining, "is_going", property(lambda self: self is busy))
    busy = Obtaining()
    space = replace(bench, bind=Bind(is_demo=True, is_space=True))
    assert not live.is_possible(space)
    space = replace(space, obtaining=busy)
    assert live.is_possible(space)
    with pytest.raises(AcftError, match="once this Space has obtained the model"):
        live.ask(space, visit(QUICK), "score", run_of(bench))


def test_a_gpu_that_trains_is_left_alone(bench, monkeypatch):
    here = replace(bench, model_process=FakeModelProcess("cuda:0"))
    run = bench.reader.run(LIVE)
    for device in ("cpu", "cuda:1"):
        status = replace(run.status, device=device)
        monkeypatch.setattr(bench.reader, "runs", lambda s=status: [replace(run, status=s)])
        assert live.ask(here, visit(may_change=True), "score", run_of(bench))["rows"]
    status = replace(run.status, device="cuda:0")
    monkeypatch.setattr(bench.reader, "runs", lambda: [replace(run, status=status)])
    with pytest.raises(AcftError, match=r"cuda:0 is training"):
        live.ask(here, visit(may_change=True), "score", run_of(bench))


def answered(bench, seen=None):
    """Every picture of a live comparison."""
    seen = seen or visit(QUICK, may_change=True)
    return [node for node, _ in live_compare.answers(bench, seen, run_of(bench), "The weather")]


def test_answers_grow_and_end_with_scores_and_a_passed_self_test(bench):
    steps = [text_of(node) for node in answered(bench)]
    assert "Opening the models" in steps[0]
    assert any("Answering" in step for step in steps)
    assert "Done." in steps[-1]
    assert "jigsaw_tcc 0.10" in steps[-1]
    assert "self-test passed" in steps[-1]
    assert "sha256 cdcdcdcdcdcd" in steps[-1]


def test_a_public_space_ends_an_answer_in_time_and_says_so_beside_what_there_is(bench, monkeypatch):
    ended = []

    class Slow(FakeModelProcess):
        def stream(self, operation, *args, **kwargs):
            try:
                return (yield from super().stream(operation, *args, **kwargs))
            except GeneratorExit:
                ended.append(operation)
                raise

    process: Any = Slow()
    monkeypatch.setattr(live_compare, "SPACE_SECONDS", -1.0)
    monkeypatch.setattr(live, "is_ready", lambda: True)
    own = replace(bench, model_process=process)
    assert "Done." in text_of(answered(own)[-1])
    public = replace(own, bind=Bind(is_demo=True, is_space=True))
    last = text_of(answered(public, visit(QUICK))[-1])
    assert "Not all was answered and judged." in last
    assert "public Space ends an answer after" in last
    assert "kind" in last
    assert ended == ["generate"]


def test_models_that_are_open_are_asked_and_not_said_to_be_opened(bench):
    process: Any = FakeModelProcess()
    process.has_opened = [QUICK].__contains__
    first = text_of(answered(replace(bench, model_process=process))[0])
    assert "Asking the models" in first


def test_texts_are_veiled_until_they_are_judged(bench):
    parts = answered(bench)
    assert '["veil"' in str(parts[3]).replace("'", '"')
    assert '["veil"' not in str(parts[-1]).replace("'", '"')
    assert "satisfied" not in text_of(parts[3])
    for told in ("satisfied 1.00", "violated 0.25", "jigsaw_tcc 0.10"):
        assert told in text_of(parts[-1])


def test_what_is_there_when_answering_is_stopped_stays_and_is_said_to_be_stopped(bench):
    seen = visit(QUICK, may_change=True)
    going = live_compare.answers(bench, seen, run_of(bench), "The weather")
    _, attempt = next(going)
    opening = text_of(live_compare.stopped(attempt))
    assert opening == "Stopped."
    next(going)
    next(going)
    shown = text_of(live_compare.stopped(attempt))
    assert "Stopped." in shown
    assert "kind" in shown
    assert "Answering" not in shown
    assert [text_of(node) for node, _ in going][-1] == text_of(live_compare.stopped(attempt))
    assert live_compare.stopped(None) == ""


def test_a_failed_self_test_is_said_loudly():
    proof = {"base": {"sha256": "a"}, "tuned": {"sha256": "b"}, "differs": 0.0, "restored": 0.0,
             "is_proved": False, "dtype": "float32", "device": "cpu"}  # fmt: skip
    weights = [{"version": 1, "sha256": "b"}]
    attempt = live_compare.Attempt("p", [], {}, weights=weights, proof=proof)
    assert "FAILED" in text_of(live_compare.badge(attempt, 0))


def test_the_self_test_of_all_weights_claims_nothing_of_an_adapter():
    proof = {"base": {"sha256": "a"}, "tuned": {"sha256": "b"}, "differs": 1.0, "restored": None,
             "is_proved": True, "dtype": "float32", "device": "cpu"}  # fmt: skip
    weights = [{"version": 1, "sha256": "b"}]
    badge = live_compare.badge(live_compare.Attempt("p", [], {}, weights=weights, proof=proof), 0)
    assert "self-test passed" in text_of(badge)
    assert "adapter" not in str(badge)


def test_other_weights_than_the_proved_ones_are_said_loudly():
    proof = {"base": {"sha256": "a"}, "tuned": {"sha256": "b"}, "differs": 1.0, "restored": 0.0,
             "is_proved": True, "dtype": "float32", "device": "cpu"}  # fmt: skip
    weights = [{"version": 1, "sha256": "c"}]
    attempt = live_compare.Attempt("p", [], {}, weights=weights, proof=proof)
    assert "not the weights" in text_of(live_compare.badge(attempt, 0))


@pytest.mark.parametrize(("guided", "name", "digest"), [
    ("", "tuned version 3, guided", "cdcdcdcdcdcd"), ("base", "base, guided", "abababababab"),
])  # fmt: skip
def test_the_guided_side_names_the_policy_it_guides_and_the_weights_used(
    bench, guided, name, digest
):
    seen = visit(QUICK, may_change=True, live_guided=guided)
    *_, last = answered(bench, seen)
    column = text_of(last).split("base, guided" if guided else "tuned version 3, guided")[-1]
    assert name in text_of(last)
    assert digest in column


def test_a_failure_leaves_what_was_written_unjudged_and_opens_no_models_again(bench):
    asked = []

    class Breaks(FakeModelProcess):
        def stream(self, operation, *options, **arguments):
            asked.append(operation)
            if operation == "generate":
                yield {"side": 0, "texts": [" fine", " fine"]}
                raise ModelError("the oracle cannot be opened")
            return (yield from super().stream(operation, *options, **arguments))

    last = answered(replace(bench, model_process=Breaks()))[-1]
    assert "fine" in text_of(last)
    assert "the oracle cannot be opened" in text_of(last)
    assert text_of(last).count("no answer") == 2
    assert "Not all was answered" in text_of(last)
    assert "Done." not in text_of(last)
    assert "not judged yet" in str(last)
    assert asked == ["identify", "generate"]


class Damaged(FakeModelProcess):
    """A process that refuses what concerns some versions or subjects, and answers the rest."""

    def __init__(self, operation, subjects, judged=()):
        super().__init__()
        self.refused, self.subjects, self.judged = operation, subjects, list(judged)

    def stream(self, operation, *options, **arguments):
        who = [side["subject"] for side in arguments.get("sides", ())]
        if operation in self.refused and (not who or who[0] in self.subjects):
            raise OperationError("checkpoint round-3 is damaged")
        if operation == "judge" and self.judged:
            raise OperationError(self.judged.pop(0))
        return (yield from super().stream(operation, *options, **arguments))


def columns(shown):
    """What stands in the column of each side."""
    names = ("base", "tuned version 3", "tuned version 3, guided by the oracle of version 3")
    told = text_of(shown)
    _, *found = re.split("|".join(re.escape(name) for name in sorted(names, key=len)[::-1]), told)
    return found


def test_a_damaged_tuned_checkpoint_leaves_the_answers_of_the_base_judged(bench):
    process: Any = Damaged(("identify", "generate"), ("policy", "guided"))
    last = answered(replace(bench, model_process=process))[-1]
    base, tuned, guided = columns(last)
    assert "jigsaw_tcc 0.10" in base
    assert "damaged" not in base
    for told in (tuned, guided):
        assert "no answer" in told
        assert "checkpoint round-3 is damaged" in told
    assert "Not all was answered and judged." in text_of(last)
    assert "could not be tested" not in text_of(last)


def test_one_side_that_fails_last_leaves_the_others_judged_and_open(bench):
    process: Any = Damaged(("generate",), ("guided",))
    last = answered(replace(bench, model_process=process))[-1]
    base, tuned, guided = columns(last)
    assert "jigsaw_tcc 0.10" in base
    assert "jigsaw_tcc 0.10" in tuned
    assert "is damaged" in guided
    assert '["veil"' not in str(last).replace("'", '"')


def test_a_failed_test_of_the_weights_keeps_no_side_from_answering(bench):
    process: Any = Damaged(("identify",), ())
    last = text_of(answered(replace(bench, model_process=process))[-1])
    assert "which weights answered could not be tested: checkpoint round-3 is damaged" in last
    assert last.count("jigsaw_tcc 0.10") == 6
    assert "Done." in last


def test_a_side_that_cannot_be_judged_stays_veiled_beside_those_that_can(bench):
    process: Any = Damaged((), (), judged=["the scorer gave no score"])
    last = answered(replace(bench, model_process=process))[-1]
    base, tuned, guided = columns(last)
    assert "not judged: the scorer gave no score" in base
    assert "jigsaw_tcc" not in base
    assert "jigsaw_tcc 0.10" in tuned
    assert "jigsaw_tcc 0.10" in guided
    assert str(last).count("not judged yet") == 2


def test_what_every_side_says_is_said_once(bench):
    process: Any = Damaged(("identify", "generate"), ("base", "policy", "guided"))
    assert text_of(answered(replace(bench, model_process=process))[-1]).count("is damaged") == 1


@pytest.mark.parametrize("text", ["0", "9", "many", "-1", "1e3", "²", "1" * 5000])
def test_conditions_out_of_range_are_named(text):
    with pytest.raises(ConfigError, match="samples"):
        live_compare.conditions(visit(live_samples=text))


@pytest.mark.parametrize("text", ["²", "1" * 5000, "-1"])
def test_a_version_that_is_no_number_is_not_there(bench, text):
    run, seen = run_of(bench), visit(QUICK, live_version=text)
    assert live_compare.version_of(seen, run) == 3
    assert "is not there" in text_of(live_compare.other_version(seen, run))


def test_a_typed_text_is_scored_and_its_tokens_can_be_exchanged(bench):
    seen = visit(QUICK, may_change=True, data={"position": 1, "id": 7})
    run = run_of(bench)
    value, request = live_tokens.scored(bench, seen, run, live_tokens.of_text(run, "a", "b"))
    assert value["canBranch"]
    assert value["toxicity"] == LIVE_ANSWER["scores"]["jigsaw_tcc"]
    value, request = live_tokens.branched(bench, seen, run, request)
    assert request["response_ids"] == [5]


def test_only_a_text_of_the_list_stays_marked_in_it_while_it_is_computed_anew(bench):
    seen, run = visit(QUICK, may_change=True, data={"position": 1, "id": 7}), run_of(bench)
    sequence = tokens_page.current_sequence(bench, seen, QUICK)
    stored = live_tokens.of_stored(bench, run, sequence)

    def marked(work):
        *_, (_, _, request, texts) = tokens_page.computed(bench, seen, {}, work)
        return "aria-current" in str(texts), request

    is_marked, request = marked(lambda run: live_tokens.scored(bench, seen, run, stored))
    assert is_marked
    assert marked(lambda run: live_tokens.scored(bench, seen, run, request))[0]
    assert not marked(lambda run: live_tokens.branched(bench, seen, run, request))[0]
    typed = live_tokens.of_text(run, "a", "b")
    assert not marked(lambda run: live_tokens.scored(bench, seen, run, typed))[0]


def test_what_somebody_typed_is_never_blurred_and_what_the_policy_adds_to_it_is(bench, monkeypatch):
    rude = LIVE_ROW | {
        "token_text": " stupid", "alternatives": '[{"id": 5, "text": " stupid", "base": -1.0}]',
    }  # fmt: skip
    answer = LIVE_ANSWER | {
        "rows": [rude, rude | {"position": 2}], "response_ids": [5, 5], "scores": {"a": 0.9},
    }  # fmt: skip
    monkeypatch.setattr(FakeModelProcess, "stream", lambda *_, **__: _returned(answer))
    seen = visit(QUICK, may_change=True, data={"position": 2, "id": 5})
    run = run_of(bench)
    value, request = live_tokens.scored(bench, seen, run, live_tokens.of_text(run, "a", "b"))
    again, request = live_tokens.scored(bench, seen, run, request)
    for shown in (value, again):
        assert not shown["veil"]
        assert not any("hot" in token for token in shown["tokens"])
        assert "hot" not in shown["tokens"][0]["alt"][0]
    altered, _ = live_tokens.branched(bench, seen, run, request)
    assert altered["veil"]
    assert ["own" in token for token in altered["tokens"]] == [True, False]
    assert ["hot" in token for token in altered["tokens"]] == [False, True]
    stored = live_tokens.of_stored(bench, run, "e0-base-0-0")
    assert live_tokens.scored(bench, seen, run, stored)[0]["veil"]


def _returned(value):
    yield from ()
    return value


def test_a_typed_text_has_an_address_and_an_altered_one_has_not(bench):
    seen = visit(QUICK, may_change=True, live_version="2", data={"position": 1, "id": 7})
    run = run_of(bench)
    _, request = live_tokens.scored(bench, seen, run, live_tokens.of_text(run, "a", "b & c=d"))
    _, again = live_tokens.scored(bench, seen, run, request)
    for asked in (request, again):
        shown: Any = live_tokens.address(seen, asked)
        link = shown[2][1]["href"]
        assert dict(parse_qsl(link.partition("?")[2])) == {
            "run": QUICK, "prompt": "a", "response": "b & c=d", "live_version": "2",
        }  # fmt: skip
    _, altered = live_tokens.branched(bench, seen, run, again)
    assert live_tokens.address(seen, altered) is None
    assert live_tokens.address(seen, request | {"typed": "x" * 5000}) is None


def test_a_text_of_too_many_letters_is_refused_with_their_number_before_models_open(bench):
    run, seen, text = run_of(bench), visit(QUICK, may_change=True), "x" * 4001
    for name, texts in (("prompt", (text, "b")), ("response", ("a", text))):
        with pytest.raises(DataError, match=f"the {name} has 4,001 letters; at most 4,000 are"):
            live_tokens.of_text(run, *texts)
    with pytest.raises(DataError, match="the prompt has 4,001 letters"):
        next(live_compare.answers(bench, seen, run, text))
    assert live_tokens.of_text(run, text[1:], text[1:])["response"] == text[1:]


def test_a_stored_text_that_is_computed_anew_has_the_address_of_the_stored_one(bench):
    seen, run = visit(QUICK, may_change=True, data={"position": 1, "id": 7}), run_of(bench)
    sequence = tokens_page.current_sequence(bench, seen, QUICK)
    stored = live_tokens.of_stored(bench, run, sequence)
    _, request = live_tokens.scored(bench, seen, run, stored)
    _, again = live_tokens.scored(bench, seen, run, request)
    for asked in (request, again):
        shown: Any = live_tokens.about_computed(seen, run, asked)
        link = next(n[1]["href"] for n in nodes(shown) if "href" in n[1])
        query = dict(parse_qsl(link.partition("?")[2]))
        assert query == {"run": QUICK, "sequence": sequence, "live_version": "1"}
        opened = tokens_page.about_text(bench, visit(may_change=True, **query))
        assert live_tokens.COMPUTE in text_of(opened)
        assert live_tokens.COMPUTE in text_of(shown)
    _, altered = live_tokens.branched(bench, seen, run, again)
    assert live_tokens.address(seen, altered) is None


def test_the_version_that_was_measured_answers_where_none_is_asked_for(bench):
    run = run_of(bench)
    run.history.best = BestCheckpoint(2, "checkpoints/round-2", "it is the best")
    assert live_compare.version_of(visit(QUICK), run) == 2
    menu = str(live_compare.controls(bench, visit(QUICK), run))
    assert "version 2, preferred" in menu
    assert "version 3, preferred" not in menu
    run.paths.checkpoint(2).rmdir()
    assert live_compare.version_of(visit(QUICK), run) == 3


@pytest.mark.parametrize("asked", ["99", "newest", "-1", "01"])
def test_a_version_that_is_not_there_is_named_wherever_another_is_taken_instead(bench, asked):
    run, seen = run_of(bench), visit(QUICK, live_version=asked, may_change=True)
    said = f"Version '{asked}' of the address is not there (there are: 0 (base), 1, 2, 3); version"
    weights = LIVE_ANSWER["weights"]
    for part in (
        live_compare.controls(bench, seen, run),
        live_tokens.scrubber(seen, run, weights),
        tokens_page.about_text(bench, seen),
    ):
        assert said in text_of(part)
    known = visit(QUICK, live_version="2", may_change=True)
    assert "is not there" not in text_of(live_compare.controls(bench, known, run))
    assert "is not there" not in text_of(tokens_page.about_text(bench, known))


def test_a_step_without_stored_values_of_the_text_is_named(bench):
    shown = text_of(tokens_page.about_text(bench, visit(QUICK, step="7")))
    assert "No values of this text are stored for step '7'" in shown
    assert "No values of this text" not in text_of(tokens_page.about_text(bench, visit(QUICK)))


def test_exchanging_a_token_before_anything_was_scored_says_what_to_do(bench):
    with pytest.raises(ConfigError, match="first"):
        live_tokens.branched(bench, visit(may_change=True), run_of(bench), {})


def test_a_stored_rollout_is_scored_by_its_own_tokens(bench):
    request = live_tokens.of_stored(bench, run_of(bench), "e0-base-0-0")
    assert request["response_ids"]
    with pytest.raises(ConfigError, match="no text 'nothing'"):
        live_tokens.of_stored(bench, run_of(bench), "nothing")


def corpus_text(bench, monkeypatch):
    """A stored sequence that is no rollout, and its rows."""
    run = run_of(bench)
    monkeypatch.setattr(live_tokens, "rollout", lambda *_: None)
    first = sequences(bench.store, run.run_id).records()[0]
    return run, guidance(bench.store, run.run_id, first["sequence_id"]).records()


def test_a_corpus_text_is_scored_again_by_exactly_its_tokens(bench, monkeypatch):
    run, stored = corpus_text(bench, monkeypatch)
    request = live_tokens.of_stored(bench, run, stored[0]["sequence_id"])
    assert "prompt" not in request
    assert request["prompt_ids"] + request["response_ids"] == [row["token_id"] for row in stored]
    assert stored[len(request["prompt_ids"])]["in_loss"]


def test_a_corpus_text_stored_without_its_first_token_says_what_to_do(bench, monkeypatch):
    run, stored = corpus_text(bench, monkeypatch)
    sequence = stored[0]["sequence_id"]
    answer = guidance(bench.store, run.run_id, sequence)
    later = replace(answer, rows=answer.rows.iloc[1:])
    monkeypatch.setattr(live_tokens, "guidance", lambda *_: later)
    with pytest.raises(ConfigError, match="start the run again"):
        live_tokens.of_stored(bench, run, sequence)


def test_an_empty_response_is_refused(bench):
    with pytest.raises(ConfigError, match="type a response"):
        live_tokens.of_text(run_of(bench), "a", "  ")


def test_models_on_the_device_of_a_run_that_starts_give_way_and_say_to_which(monkeypatch):
    told: dict[str, list[str]] = {"cuda:0": [], "cpu": []}
    processes = [Inference(device) for device in told]
    for process in processes:
        monkeypatch.setattr(process, "close", told[process.device].append)
    _give_way(processes, "cuda:0", QUICK)
    assert told == {"cuda:0": [f"run {QUICK} was to start on cuda:0"], "cpu": []}


@pytest.mark.parametrize(
    ("beside", "name"),
    [
        ("best_of_n", "base, the best of 8"),
        ("x", ""),
        ("rad", "base, reward-augmented decoding (top-p 1)"),
    ],
)
def test_a_decoder_that_trains_nothing_answers_beside_the_policies_where_asked_for(
    bench, beside, name
):
    seen, run = visit(QUICK, may_change=True, live_beside=beside), run_of(bench)
    *_, (part, attempt) = live_compare.answers(bench, seen, run, "A prompt")
    subjects = [side["subject"] for side in attempt.sides]
    assert subjects == ["base", "policy", "guided", *([beside] if name else [])]
    told = [side["candidates"] for side in attempt.sides if "candidates" in side]
    assert told == ([8] if beside == "best_of_n" else [])
    assert name in text_of(part)
    assert text_of(part).count("self-test passed") == len(subjects)
    assert "Beside them" in text_of(live_compare.controls(bench, seen, run))
    only_base = visit(QUICK, may_change=True, live_beside=beside, live_version="0")
    *_, (_, attempt) = live_compare.answers(bench, only_base, run, "A prompt")
    assert [side["subject"] for side in attempt.sides] == ["base", *([beside] if name else [])]
