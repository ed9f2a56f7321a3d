import functools
import gc
import json
import weakref
from pathlib import Path

import pytest
import torch

from acft.benchmarks.base import SUITES
from acft.benchmarks.harness import HarnessSettings
from acft.benchmarks.results import MEASUREMENTS, Results
from acft.errors import AcftError, ConfigError, DataError, ModelError
from acft.events import Evaluated, Note
from acft.likelihood import document_likelihoods
from acft.methods.base import METHODS
from acft.methods.evaluate import EvaluateSettings
from acft.methods.quark import QuarkSettings
from acft.policy import base_policy, trainable_policy
from acft.runs.references import missing_files
from acft.schema import TABLES
from acft.scoring import ScorerPool
from acft.settings import RunSettings
from acft.training.outputs import Checkpoint, Rows, TrainContext
from acft.training.sameness import named, require_same
from acft.training.subjects import SubjectSettings, open_policy
from acft.types import Document
from tests.bench import FailingScorer, VowelScorer, run_settings, tiny_model

OPTIONS = {
    "rtp": {"prompts": 2, "continuations": 2, "horizon": 3},
    "perplexity": {"documents": 3},
    "fluency": {"prompts": 2, "continuations": 2, "horizon": 3},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunSettings:
    return run_settings(tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(autouse=True)
def loaded(monkeypatch) -> list[str]:
    """Names of the fake scorers that were loaded, in order."""
    names: list[str] = []

    def load(name: str, device: str):
        names.append(name)
        scorers = {"vowels": VowelScorer, "broken": FailingScorer}
        if name not in scorers:
            raise ModelError(f"scorer {name!r} cannot be loaded: it is not there")
        return scorers[name]()

    pool = functools.partial(ScorerPool, load=load)
    monkeypatch.setattr("acft.training.outputs.ScorerPool", pool)
    return names


def settings(suites=("rtp", "perplexity"), **changes) -> EvaluateSettings:
    return EvaluateSettings.parse({"suites": suites, "options": OPTIONS} | changes)


def outputs(chosen: EvaluateSettings, run: RunSettings, folder: Path, **context) -> list:
    """Everything the run yields, its checkpoints saved as a worker would."""
    found: list = []
    collect(found, chosen, run, folder, **context)
    return found


def collect(
    found: list, chosen: EvaluateSettings, run: RunSettings, folder: Path, **context
) -> None:
    for output in METHODS.get("evaluate").train(chosen, TrainContext(run, **context)):
        found.append(output)
        if isinstance(output, Checkpoint):
            place = folder / f"round-{output.round}"
            place.mkdir(parents=True)
            output.save(place)


def of_type(found: list, kind: type) -> list:
    return [output for output in found if isinstance(output, kind)]


def test_an_evaluation_keeps_to_the_threads_of_its_settings(run, tmp_path, monkeypatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    schedule = run.schedule.model_copy(update={"threads": 3})
    outputs(
        settings(suites=("perplexity",)), run.model_copy(update={"schedule": schedule}), tmp_path
    )
    assert taken[0] == 3


def test_every_suite_of_every_subject_is_a_sealed_round(run, tmp_path) -> None:
    chosen = settings(subjects={"policy": {"version": 4}, "base": {}})
    found = outputs(chosen, run, tmp_path)
    assert [c.round for c in of_type(found, Checkpoint)] == [1, 2, 3, 4]
    subjects = [e.subject for e in of_type(found, Evaluated)]
    assert subjects == sorted(subjects, key=["base", "policy"].index)
    assert {e.policy_version for e in of_type(found, Evaluated)} == {0, 4}


def test_an_unchanged_policy_is_reported_as_unchanged(run, tmp_path) -> None:
    found = outputs(settings(subjects={"policy": {}, "base": {}}), run, tmp_path)
    changes = [e for e in of_type(found, Evaluated) if e.metric == "mean_toxicity_difference"]
    assert [(e.subject, e.suite, e.value) for e in changes] == [("policy", "rtp/vowels", 0.0)]


def test_rows_fit_the_tables_of_the_run_directory(run, tmp_path) -> None:
    rows = of_type(outputs(settings(["rtp"]), run, tmp_path), Rows)
    assert [r.table for r in rows] == ["rollouts", "scores"]
    for table in rows:
        for row in table.rows:
            assert row.keys() <= set(TABLES[table.table].names)
    ids = [row["rollout_id"] for row in rows[0].rows]
    assert len(set(ids)) == len(ids) == 4


def test_a_resumed_evaluation_only_does_what_is_missing(run, tmp_path) -> None:
    chosen = settings(subjects={"base": {}})
    whole = outputs(chosen, run, tmp_path / "whole")
    resumed = outputs(
        chosen, run, tmp_path / "resumed",
        resume_from=tmp_path / "whole" / "round-1", resume_round=1,
    )  # fmt: skip
    assert [c.round for c in of_type(resumed, Checkpoint)] == [2]
    assert {e.suite.split("/")[0] for e in of_type(resumed, Evaluated)} == {"perplexity"}
    last = [tmp_path / name / "round-2" / MEASUREMENTS for name in ("whole", "resumed")]
    assert last[0].read_bytes() == last[1].read_bytes()
    assert of_type(whole, Evaluated)[-1] == of_type(resumed, Evaluated)[-1]


class NewerScorer(VowelScorer):
    """Under the same name."""

    version = "2"


def test_an_evaluation_does_not_go_on_with_another_version_of_its_scorer(
    run, tmp_path, monkeypatch
) -> None:
    chosen = settings(["rtp"], subjects={"base": {}, "policy": {"version": 4}})
    outputs(chosen, run, tmp_path)
    place = {"resume_from": tmp_path / "round-1", "resume_round": 1}
    use(monkeypatch, vowels=NewerScorer)
    with pytest.raises(ModelError, match=r"scorer 'vowels' is '2 0' and was '1 0'; restore"):
        outputs(chosen, run, tmp_path / "resumed", **place)


def test_a_suite_that_fails_does_not_cost_the_others(run, tmp_path) -> None:
    found: list = []
    with pytest.raises(ConfigError, match="judge is empty"):
        collect(found, settings(["fluency", "perplexity"]), run, tmp_path)
    (note,) = of_type(found, Note)[:1]
    assert note.level == "warning"
    assert "suite fluency of base failed" in note.text
    assert len(of_type(found, Checkpoint)) == 1


def test_a_suite_without_its_judge_is_a_contradiction(run) -> None:
    method = METHODS.get("evaluate")
    (sentence,) = method.contradictions(settings(["fluency", "perplexity"]), run)
    assert "suites = fluency: name a judge" in sentence
    assert method.contradictions(settings(["fluency"], judge="m"), run) == []
    (sentence,) = method.missing(settings(["fluency"], options={}, judge="no/model/here"), run)
    assert "judge = 'no/model/here'" in sentence
    assert method.missing(settings(["fluency"], options={}, judge=run.model.name), run) == []


@pytest.mark.parametrize("is_chat", [False, True])
def test_a_control_text_cannot_stand_before_messages(run, is_chat) -> None:
    model = run.model.model_copy(update={"chat_template": is_chat})
    run = run.model_copy(update={"model": model})
    asked = EvaluateSettings(subjects={"policy": SubjectSettings(control="quality 1")})
    found = [
        *METHODS.get("evaluate").contradictions(asked, run),
        *METHODS.get("quark").contradictions(QuarkSettings(), run),
    ]
    assert len(found) == (2 if is_chat else 0)
    assert all("chat_template" in sentence for sentence in found)


def judged_by(run: RunSettings, *scorers: str) -> RunSettings:
    evaluation = run.evaluation.model_copy(update={"scorers": scorers})
    return run.model_copy(update={"evaluation": evaluation})


def test_a_scorer_that_is_missing_costs_its_numbers_and_the_evaluation_is_not_whole(
    run, tmp_path
) -> None:
    found: list = []
    told = "no number from scorer gone: cannot be loaded: it is not there"
    with pytest.raises(ModelError, match=told):
        collect(found, settings(["rtp"]), judged_by(run, "vowels", "gone"), tmp_path)
    assert any("no number from scorer gone" in note.text for note in of_type(found, Note))
    assert {e.suite for e in of_type(found, Evaluated)} == {"rtp", "rtp/vowels"}
    assert of_type(found, Checkpoint) == []


def test_every_scorer_whose_files_are_missing_is_told_before(monkeypatch) -> None:
    monkeypatch.setattr("acft.scorers.base.has_asset", lambda _: False)
    evaluation = {"scorers": ["jigsaw_tcc", "profanity_svm", "model:/no/such"]}
    asked = RunSettings.parse({"evaluation": evaluation, "model": {"name": "owner/name"}})
    first, last = missing_files(asked, ())
    assert first.startswith("[evaluation] scorers = 'jigsaw_tcc': toxic-comment-classifier not")
    assert last.startswith("[evaluation] scorers = 'model:/no/such': cannot read '/no/such/config")
    assert last.count("model:/no/such") == 1


def test_a_missing_scorer_that_no_suite_asks_is_not_missed(run, tmp_path) -> None:
    found = outputs(settings(["perplexity"]), judged_by(run, "vowels", "gone"), tmp_path)
    assert len(of_type(found, Checkpoint)) == 1


def test_a_stop_leaves_the_unfinished_suite_out(run, tmp_path) -> None:
    found = outputs(settings(), run, tmp_path, should_stop=lambda: True)
    assert of_type(found, Checkpoint) == []
    assert of_type(found, Evaluated) == []


def test_an_unknown_suite_is_refused_before_anything_loads() -> None:
    with pytest.raises(ConfigError, match="unknown suite 'rtpp'; did you mean 'rtp'"):
        settings(["rtpp"])


def test_settings_of_suites_are_complete_so_that_later_defaults_change_no_record() -> None:
    bare = EvaluateSettings.parse({"suites": ["rtp", "perplexity"]})
    assert bare.options["rtp"]["horizon"] == 20
    assert bare.options.keys() == {"rtp", "perplexity"}
    files = EvaluateSettings.parse(
        {"suites": ["harness"], "options": {"harness": {"files": ["q.jsonl"]}}}
    )
    assert HarnessSettings.parse(files.options["harness"]).tasks == ()
    written = {"rtp": {"horizon": 20}}
    assert bare == EvaluateSettings.parse({"suites": ["rtp", "perplexity"], "options": written})


def test_wrong_options_of_a_suite_are_refused_before_anything_loads() -> None:
    with pytest.raises(ConfigError, match=r"method.options.rtp.*promts.*did you mean 'prompts'"):
        EvaluateSettings.parse({"options": {"rtp": {"promts": 3}}})


def test_damaged_measurements_are_an_error_that_names_the_file(tmp_path) -> None:
    (tmp_path / MEASUREMENTS).write_text('{"rtp": {"base": {"x": 3}}}')
    with pytest.raises(DataError, match=MEASUREMENTS):
        Results.load(tmp_path)


def test_measurements_are_plain_json(run, tmp_path) -> None:
    outputs(settings(["perplexity"]), run, tmp_path)
    values = json.loads((tmp_path / "round-1" / MEASUREMENTS).read_text())
    assert list(values["perplexity"]) == ["base"]


def test_facts_tell_who_judges_and_whose_weights_answer(run, tmp_path) -> None:
    files = {"oracle/a.safetensors": {"sha256": "no"}, "policy/b.safetensors": {"sha256": "ab"}}
    (tmp_path / "manifest.json").write_text(json.dumps({"files": files}))
    policy = {"checkpoint": str(tmp_path), "version": 3}
    method = {"name": "evaluate", "subjects": {"base": {}, "policy": policy}}
    known = judged_by(run.model_copy(update={"method": method}), "vowels", "gone")
    facts = METHODS.get("evaluate").facts(TrainContext(known))
    assert facts["model_sha256"] == base_policy(run).backbone.sha256
    assert facts["policies"] == [{"name": "policy", "version": "3", "sha256": "ab"}]
    assert (facts["drawings"].keys(), facts["drawings"]["rtp"]["top_p"]) == ({"rtp"}, 0.9)
    judge, lost = facts["scorers"]
    assert judge == {"name": "vowels", "version": "1", "sha256": "0"}
    assert lost["version"].startswith("missing: ")


@pytest.mark.parametrize(
    ("decoders", "top_p", "others"),
    [
        ({"base": "plain", "policy": "best_of_n"}, 0.9, None),
        ({"policy": "rad"}, 1.0, None),
        ({"base": "plain", "policy": "rad", "other": "guided"}, 0.9, {"policy": 1.0}),
    ],
)
def test_facts_tell_the_nucleus_that_decoders_really_have(run, decoders, top_p, others) -> None:
    subjects = {name: {"decoder": decoder} for name, decoder in decoders.items()}
    method = {"name": "evaluate", "suites": ["rtp"], "subjects": subjects}
    known = run.model_copy(update={"method": method})
    told = METHODS.get("evaluate").facts(TrainContext(known))["drawings"]["rtp"]
    assert (told["top_p"], told.get("top_p_of")) == (top_p, others)


def test_a_text_more_in_what_a_suite_reads_is_noticed(run, tmp_path) -> None:
    prompts, texts = tmp_path / "prompts.txt", tmp_path / "texts.txt"
    prompts.write_text("\n".join(f"the river rose {n} feet and" for n in range(40)))
    texts.write_text("\n".join(f"In year {n} the river rose." for n in range(40)))
    options = OPTIONS | {"perplexity": {"documents": 3, "corpora": [str(texts)]}}
    method = {"name": "evaluate", "suites": ["rtp", "fluency", "perplexity"], "options": options}
    own = run.prompts.model_copy(update={"source": str(prompts)})
    asked = run.model_copy(update={"method": method, "prompts": own})

    def found() -> dict[str, str]:
        return named(METHODS.get("evaluate").facts(TrainContext(asked)))

    before = found()
    require_same(before, found(), "evaluation", "measure anew")
    read = {f"texts of '{name}: {prompts}'" for name in ("rtp", "fluency")}
    assert {name for name in before if name.startswith("texts of")} == read | {
        f"texts of 'perplexity: {texts}'"
    }
    for file, suite in ((texts, "perplexity"), (prompts, "rtp")):
        with file.open("a") as more:
            more.write("\nand one line more")
        with pytest.raises(ModelError, match=f"texts of '{suite}: "):
            require_same(before, found(), "evaluation", "measure anew")


@pytest.mark.parametrize("changed", ["q.jsonl", "boolq.jsonl", "packaged.json"])
def test_other_questions_in_a_file_of_the_harness_are_noticed(
    run, tmp_path, monkeypatch, changed
) -> None:
    for name in ("q.jsonl", "boolq.jsonl", "packaged.json"):
        (tmp_path / name).write_text("as it was")
    monkeypatch.setattr("acft.benchmarks.harness.offline_file", lambda: tmp_path / "packaged.json")
    own, packages = str(tmp_path / "q.jsonl"), str(tmp_path / "boolq.jsonl")
    options = {"tasks": ["mmlu_letters"], "files": [own], "local": {"boolq": packages}}
    method = {"name": "evaluate", "suites": ["harness"], "options": {"harness": options}}
    asked = run.model_copy(update={"method": method})

    def found() -> dict[str, str]:
        return named(METHODS.get("evaluate").facts(TrainContext(asked)))

    before = found()
    require_same(before, found(), "evaluation", "measure anew")
    places = {"q.jsonl": own, "boolq.jsonl": packages, "packaged.json": "mmlu_letters"}
    assert {f"texts of 'harness: {place}'" for place in places.values()} <= before.keys()
    (tmp_path / changed).write_text("as it is")
    with pytest.raises(ModelError, match=f"texts of 'harness: {places[changed]}'"):
        require_same(before, found(), "evaluation", "measure anew")


def test_a_scorer_whose_hash_is_recorded_is_not_loaded_again_to_judge(run, loaded) -> None:
    context = TrainContext(judged_by(run, "vowels"))
    METHODS.get("evaluate").facts(context)
    assert [*METHODS.get("evaluate").train(settings(["rtp"]), context)]
    assert loaded == ["vowels"]


def test_a_checkpoint_is_opened_with_its_adapter_merged(run, tmp_path) -> None:
    trained = trainable_policy(base_policy(run), run.adapter, 0)
    for parameter in trained.parameters():
        parameter.data += 0.05
    trained.save(tmp_path / "policy")
    opened = open_policy(run, SubjectSettings(checkpoint=str(tmp_path), version=3))
    plain = open_policy(run, SubjectSettings())
    texts = [Document("a", "", "the river rose", "general")]
    assert opened.version == 3
    nats = [document_likelihoods(policy, texts)[0].nll for policy in (opened, trained, plain)]
    assert nats[0] == pytest.approx(nats[1])
    assert nats[0] != pytest.approx(nats[2])


def test_a_checkpoint_is_not_put_on_other_weights_than_it_was_trained_from(run) -> None:
    sha256 = base_policy(run).backbone.sha256
    open_policy(run, SubjectSettings(base_sha256=sha256))
    with pytest.raises(ModelError, match=r"not those .* started from .* restore the original"):
        open_policy(run, SubjectSettings(base_sha256="0" * 64))


def test_a_checkpoint_that_is_not_there_is_an_error(run) -> None:
    with pytest.raises(AcftError, match="no checkpoint"):
        open_policy(run, SubjectSettings(checkpoint="nowhere"))


def test_a_decoder_that_needs_an_oracle_needs_a_checkpoint(run, tmp_path) -> None:
    chosen = settings(["rtp"], subjects={"guided": {"decoder": "guided"}})
    with pytest.raises(ConfigError, match="give the subject a checkpoint"):
        outputs(chosen, run, tmp_path)


class FailingLater(VowelScorer):
    """Answers once and then fails, until it is mended."""

    name = "broken"
    is_mended = False

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def score(self, texts):
        self.calls += 1
        if self.calls > 1 and not FailingLater.is_mended:
            raise ModelError("scorer 'broken' failed on purpose")
        return super().score(texts)


def numbers_of(found: list) -> list[tuple[str, str, str]]:
    """Subject, suite and metric of every number, in a fixed order."""
    return sorted((e.subject, e.suite, e.metric) for e in of_type(found, Evaluated))


def row_ids(found: list, table: str = "rollouts") -> list[tuple]:
    """What tells the rows of a table apart, beside the round."""
    names = ("subject", "prompt_id", "sample") if table == "rollouts" else ("rollout_id", "scorer")
    rows = [row for output in of_type(found, Rows) if output.table == table for row in output.rows]
    return sorted(tuple(row[name] for name in names) for row in rows)


def until_last_checkpoint(found: list) -> list:
    """What a resumed run does not take back."""
    sealed = [i for i, output in enumerate(found) if isinstance(output, Checkpoint)]
    return found[: sealed[-1] + 1] if sealed else []


def use(monkeypatch, **scorers) -> None:
    pool = functools.partial(ScorerPool, load=lambda name, device: scorers[name]())
    monkeypatch.setattr("acft.training.outputs.ScorerPool", pool)


def test_a_scorer_that_fails_in_the_middle_costs_its_own_numbers_only(
    run, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("acft.evaluation.CHUNK_RESPONSES", 2)
    monkeypatch.setattr(FailingLater, "is_mended", False)
    use(monkeypatch, vowels=VowelScorer, broken=FailingLater)
    judged = judged_by(run, "vowels", "broken")
    options = OPTIONS | {"rtp": OPTIONS["rtp"] | {"batch_size": 2}}
    chosen = settings(subjects={"policy": {"version": 4}, "base": {}}, options=options)
    found: list = []
    with pytest.raises(ModelError, match="on purpose"):
        collect(found, chosen, judged, tmp_path)
    told = {(e.subject, e.suite) for e in of_type(found, Evaluated) if e.metric == "toxic_share"}
    assert told == {("base", "rtp/vowels"), ("policy", "rtp/vowels")}
    assert len(row_ids(found)) == 8, "texts drawn are kept"
    assert sum("go on without" in note.text for note in of_type(found, Note)) == 2
    sealed = of_type(found, Checkpoint)
    assert [checkpoint.round for checkpoint in sealed] == [1, 2], "both perplexities"
    kept = until_last_checkpoint(found)
    assert {suite.split("/")[0] for _, suite, _ in numbers_of(kept)} == {"perplexity"}
    assert row_ids(kept) == []

    monkeypatch.setattr(FailingLater, "is_mended", True)
    last = {"resume_from": tmp_path / "round-2", "resume_round": 2}
    again = outputs(chosen, judged, tmp_path, **last)
    assert [checkpoint.round for checkpoint in of_type(again, Checkpoint)] == [3, 4]
    whole = outputs(chosen, judged, tmp_path / "whole")
    assert numbers_of([*kept, *again]) == numbers_of(whole)
    assert row_ids([*kept, *again]) == row_ids(whole)
    assert len(row_ids([*kept, *again], "scores")) == 16


def test_a_comparison_with_what_failed_is_made_when_that_is_there(run, tmp_path) -> None:
    chosen = settings(["fluency"], subjects={"policy": {"version": 4}, "base": {}}, judge="gone")
    found: list = []
    with pytest.raises(ModelError):
        collect(found, chosen, run, tmp_path)
    assert of_type(found, Checkpoint) == []
    mended = chosen.model_copy(update={"judge": run.model.name})
    again = numbers_of(outputs(mended, run, tmp_path))
    assert ("policy", "fluency", "judge_perplexity_difference") in again


def test_responses_that_two_suites_use_have_rows_once_even_when_it_is_resumed_between_them(
    run, tmp_path
) -> None:
    chosen = settings(["rtp", "fluency"], subjects={"base": {}}, judge=run.model.name)
    whole = outputs(chosen, run, tmp_path / "whole")
    first = whole[: whole.index(of_type(whole, Checkpoint)[0]) + 1]
    place = {"resume_from": tmp_path / "whole" / "round-1", "resume_round": 1}
    again = outputs(chosen, run, tmp_path, **place)
    assert of_type(again, Rows) == []
    assert row_ids([*first, *again]) == row_ids(whole)
    assert numbers_of([*first, *again]) == numbers_of(whole)


def test_unsealed_and_sealed_responses_to_the_same_prompts_have_rows_of_their_own(
    run, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(FailingLater, "is_mended", False)
    use(monkeypatch, vowels=VowelScorer, broken=FailingLater)
    prompts = run.prompts.source
    chosen = settings(
        ["rtp", "toxigen"], subjects={"base": {}},
        options={**OPTIONS, "toxigen": {"source": prompts, "prompts": 2, "horizon": 3}},
    )  # fmt: skip
    found: list = []
    with pytest.raises(ModelError):
        collect(found, chosen, judged_by(run, "vowels", "broken"), tmp_path)
    rows = [row for o in of_type(found, Rows) if o.table == "rollouts" for row in o.rows]
    ids = [row["rollout_id"] for row in rows]
    assert len(ids) == len(set(ids)) == 6


def test_the_judge_is_opened_once_for_all_subjects(run, tmp_path, monkeypatch) -> None:
    opened = []

    def open_counted(run: RunSettings, subject: SubjectSettings):
        opened.append(subject.version)
        return open_policy(run, subject)

    monkeypatch.setattr("acft.methods.evaluate.open_policy", open_counted)
    subjects = {"policy": {"version": 4}, "base": {}}
    outputs(settings(["fluency"], subjects=subjects, judge=run.model.name), run, tmp_path)
    assert opened == [0, 0, 4], "base, the judge when it is first asked, and the policy"


def test_a_scorer_is_loaded_once_and_a_subject_left_before_the_next_is_opened(
    run, tmp_path, monkeypatch
) -> None:
    loaded, opened, held = [], [], []

    def open_counted(run: RunSettings, subject: SubjectSettings):
        gc.collect()
        held.append(sum(other() is not None for other in opened))
        policy = open_policy(run, subject)
        opened.append(weakref.ref(policy.backbone.model))
        return policy

    def load(name: str, device: str):
        loaded.append(name)
        scorer = VowelScorer()
        scorer.name = name
        return scorer

    pool = functools.partial(ScorerPool, load=load)
    monkeypatch.setattr("acft.training.outputs.ScorerPool", pool)
    monkeypatch.setattr("acft.methods.evaluate.open_policy", open_counted)
    constraint = [{"kind": "scorer", "scorer": "jigsaw_tcc"}]
    judged = judged_by(run.model_copy(update={"constraint": constraint}), "jigsaw_tcc")
    subjects = {"base": {}, "control": {"version": 1}, "policy": {"version": 4}}
    outputs(settings(["rtp"], subjects=subjects), judged, tmp_path)
    assert loaded == ["jigsaw_tcc"]
    assert held == [0, 0, 0]


def test_prompts_that_are_not_there_are_told_before_anything_is_opened(tmp_path) -> None:
    gone = str(tmp_path / "gone.jsonl")
    chosen = settings(
        ["rtp", "toxigen", "perplexity"],
        options={
            "rtp": {"source": "realtoxicity"},
            "toxigen": {"source": gone},
            "perplexity": {"corpora": ["sotu", "browm", "base_rollouts"]},
        },
    )
    first, second, own, third = METHODS.get("evaluate").missing(chosen, RunSettings())
    assert first.startswith("[method.options.rtp] source = 'realtoxicity': ")
    assert "did you mean 'realtoxicityprompts'" in first
    assert second.startswith(f"[method.options.toxigen] source = {gone!r}: ")
    assert third.startswith("[method.options.perplexity] source = 'browm': ")
    assert "did you mean 'brown'" in third
    assert "corpora = 'base_rollouts': is written by the policy" in own


def test_prompts_of_another_file_are_looked_for_in_the_column_in_which_they_are_read(
    run, tmp_path
) -> None:
    file = tmp_path / "others.jsonl"
    file.write_text('{"question": "How deep is it?", "category": "toxic"}\n')
    prompts = run.prompts.model_copy(update={"text_field": "question"})
    asked = run.model_copy(update={"prompts": prompts})
    suites = ["rtp", "divergence"]
    options = {name: {"source": str(file)} for name in suites}
    chosen = settings(suites, options=options)
    assert METHODS.get("evaluate").missing(chosen, asked) == []
    for name in suites:
        suite = SUITES.get(name)
        work = suite.work(suite.settings_type.parse(options[name]), asked)
        assert sum(work.values()) > 0, f"{name} reads it"
    told = METHODS.get("evaluate").missing(chosen, run)
    assert [line.split("]")[0] for line in told] == [f"[method.options.{name}" for name in suites]


def test_labelled_texts_are_looked_for_in_the_usual_column(run, tmp_path) -> None:
    file = tmp_path / "labelled.jsonl"
    file.write_text('{"text": "How deep is it?", "category": "toxic"}\n')
    prompts = run.prompts.model_copy(update={"text_field": "question"})
    asked = run.model_copy(update={"prompts": prompts})
    chosen = settings(["detection"], options={"detection": {"source": str(file)}})
    assert METHODS.get("evaluate").missing(chosen, asked) == []
    file.write_text('{"question": "How deep is it?", "category": "toxic"}\n')
    (told,) = METHODS.get("evaluate").missing(chosen, asked)
    assert "has no column 'text'" in told


def test_parts_of_subjects_that_are_not_there_are_told_before_anything_is_opened(run) -> None:
    subjects = {
        "base": {},
        "policy": {"model": "no/model/here", "checkpoint": "no/round-3"},
        "guided": {"decoder": "guided", "decoder_options": {"strenght": 2.0}},
    }
    chosen = settings(["rtp"], options={}, subjects=subjects)
    model, checkpoint = METHODS.get("evaluate").missing(chosen, run)
    assert model.startswith("[method.subjects.policy] model = 'no/model/here': ")
    assert checkpoint.startswith("[method.subjects.policy] checkpoint = 'no/round-3': no such")
    (decoder,) = METHODS.get("evaluate").contradictions(chosen, run)
    assert decoder.startswith("[method.subjects.guided.decoder_options] strenght = 2.0")
    assert "did you mean 'strength'" in decoder


def test_options_of_a_suite_that_is_not_done_are_refused_when_a_run_starts() -> None:
    chosen = settings(["rtp"], options={"perplexity": {"documents": 3}})
    (told,) = METHODS.get("evaluate").missing(chosen, RunSettings())
    assert told == (
        "[method.options.perplexity] has no effect without the suite; add 'perplexity' to suites"
    )
