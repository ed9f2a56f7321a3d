import subprocess

import pytest

from acft.config import flat
from acft.errors import ConfigError
from acft.events import Progress
from acft.methods.evaluate import EvaluateSettings
from acft.runs import spec
from acft.runs.failures import classify, smaller
from acft.runs.pace import Pace
from acft.runs.references import unknown_names
from acft.runs.spec import load_spec, parse_spec, resolved, spec_of
from acft.settings import RunSettings
from acft.training.subjects import SubjectSettings
from tests import fake_method
from tests.fake_runs import SPEC, create

pytestmark = pytest.mark.usefixtures("fake_method_known")


def problems(*overrides, text=SPEC):
    with pytest.raises(ConfigError) as error:
        parse_spec(text, overrides)
    return str(error.value).splitlines()


def test_a_spec_keeps_the_text_as_written():
    assert parse_spec(SPEC, ["seed=1"]).text == SPEC


def test_a_spec_combines_settings_method_and_constraints():
    spec = parse_spec(SPEC, ["method.step_seconds=0.5"])
    assert spec.method_name == "fake"
    assert spec.method_settings == fake_method.FakeSettings(step_seconds=0.5)
    assert spec.constraints[0].scorer_names() == ("jigsaw_toxblock",)
    assert spec.title == "fake"


def test_all_problems_of_all_parts_are_told_at_once():
    found = problems(
        "schedule.rouns=1", "sampling.horizon=0", "method.fale='oom'", "constraint=[{kind='scorr'}]"
    )
    assert len(found) == 4
    text = "\n".join(found)
    for hint in ("'rounds'", "'fail'", "horizon", "'scorer'"):
        assert hint in text


def test_an_unknown_method_names_the_known_ones():
    (problem,) = problems("method.name='fke'")
    assert "did you mean 'fake'" in problem
    assert "allowed: " in problem


@pytest.mark.parametrize("method", ["[[]]", "{}", "3", "{name=3}"])
def test_a_method_without_a_name_is_told_so(method):
    assert any("method" in line for line in problems(f"method={method}"))


@pytest.mark.parametrize(
    ("overrides", "where"),
    [
        (["sampling.horizon=128"], "horizon = 128"),
        (["optimizer.warmup_steps=12"], "warmup_steps = 12"),
        (["schedule.rounds=1073741824", "optimizer.steps_per_round=2"], "2147483648 steps"),
        (["oracle.strength=9.0"], "strength = 9.0"),
        (["device='mps'", "dtype='bfloat16'"], "dtype = 'bfloat16'"),
        (["optimizer.micro_batch_size=5"], "not a multiple"),
        (["sampling.top_p=0.9"], "top_p = 0.9"),
        (["sampling.temperature=0.7"], "[oracle] temperature"),
        (["model.sharding='fsdp'", "model.quantization='nf4'"], "cannot divide"),
        (["model.sharding='fsdp'", "engine.kind='bfloat16'"], "[engine] kind = 'bfloat16'"),
        (["model.sharding='fsdp'", "oracle.kind='monte_carlo'"], "take another kind"),
        (["model.sharding='fsdp'", "optimizer.compile=true"], "no compiler sees"),
        (["optimizer.compile=true", "model.quantization='nf4'"], "are not compiled"),
        (["engine.kind='compiled'", "model.quantization='nf4'"], "few bits"),
        (["engine.kind='vllm'", "engine.address='host:80'"], "[engine] address = 'host:80'"),
        (["method={name='rl'}", "oracle.rollouts_per_round=15"], "at least 16"),
    ],
)
def test_settings_that_are_impossible_together_are_refused(overrides, where):
    assert where in problems(*overrides)[0]


GENERAL = "corpus=[{source='sotu'}]"


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([GENERAL], "nothing would be penalised"),
        (["method.reach_weighted=true", "method.prefixes=['guided']"], "use one of the two"),
        (["method.guidance_top_k=4", "method.prefixes=['on_policy']"], "guidance_top_k = 4"),
    ],
)
def test_settings_of_acft_without_effect_are_refused(overrides, told):
    (problem,) = problems(*overrides, text="")
    assert told in problem


@pytest.mark.parametrize(
    "way_out",
    ["method.adaptive=false", "method.kl_weight=0.0", "method.prefixes=['corpus', 'on_policy']"],
)
def test_a_corpus_without_attribute_texts_has_ways_out(way_out):
    assert parse_spec("", [GENERAL, way_out]).method_name == "acft"


def test_a_setting_of_the_method_can_be_overridden_where_the_text_names_none():
    spec = parse_spec("", ["method.delta=0.9"])
    assert (spec.method_name, spec.values["method.delta"]) == ("acft", 0.9)


def test_one_entry_of_a_list_can_be_overridden_where_the_text_has_none():
    spec = parse_spec(SPEC, ["corpus.1.weight=2.5"])
    assert [corpus.weight for corpus in spec.settings.corpus] == [1.0, 2.5]


@pytest.mark.parametrize("place", ["²", "9" * 5000, "7", "-1"])
def test_a_place_that_no_list_has_is_named(place):
    for override in (f"corpus.{place}.weight=2", f"corpus.{place}=2"):
        with pytest.raises(ConfigError, match="--set 'corpus"):
            parse_spec("", [override])


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no settings file at .*missing\.toml"):
        load_spec(tmp_path / "missing.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("a = ]")
    with pytest.raises(ConfigError, match=r"broken\.toml.*not valid TOML.*line 1"):
        load_spec(broken)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"is not UTF-8 \(byte 0xff\)"):
        load_spec(broken)


def test_settings_of_a_run_are_those_that_it_was_launched_with_and_its_own(tmp_path):
    paths = create(tmp_path, "seed=7")
    assert spec_of(paths).settings.seed == 7
    secret = tmp_path / "secret"
    secret.write_text("password = hidden")
    paths.spec.unlink()
    paths.spec.symlink_to(secret)
    with pytest.raises(ConfigError, match=r"cannot read settings file .*spec\.toml") as refused:
        spec_of(paths)
    assert "hidden" not in str(refused.value)


def test_leaves_are_named_as_overrides_write_them():
    tables = {"a": {"b": 1, "c": [1, 2]}, "d": [{"e": 2}, {"e": 3}]}
    assert flat(tables) == {"a.b": 1, "a.c": [1, 2], "d.0.e": 2, "d.1.e": 3}


def test_resolved_names_what_numbers_depend_on():
    found = resolved(parse_spec(SPEC))
    assert set(found) >= {"settings", "method", "seed", "git_commit", "packages", "python"}


def settings(**changes):
    return RunSettings.parse({"optimizer": changes})


def test_less_memory_keeps_whole_micro_batches():
    changes = smaller(settings(batch_size=24, micro_batch_size=12), "fit_policy")
    assert changes == ("optimizer.micro_batch_size=6",)
    assert smaller(settings(batch_size=9, micro_batch_size=9), "fit_policy") == (
        "optimizer.micro_batch_size=3",
    )


def test_an_unknown_phase_lowers_every_batch():
    assert smaller(settings()) == ("optimizer.micro_batch_size=4", "sampling.batch_size=32")


def test_when_batches_are_one_documents_are_cut():
    small = RunSettings.parse({"optimizer": {"micro_batch_size": 1}, "sampling": {"batch_size": 1}})
    assert smaller(small) == ("optimizer.max_tokens=64",)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "oom"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), "oom"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "oom"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
            ),
            "oom",
        ),
        (RuntimeError("shape mismatch"), "unknown"),
        (OSError(28, "No space left on device", "x"), "disk"),
        (OSError(13, "Permission denied", "x"), "unknown"),
        (ConfigError("wrong"), "config"),
    ],
)
def test_failures_are_classified(error, kind):
    failure = classify(error, RunSettings(), "sample")
    assert failure.kind == kind
    assert failure.message
    assert failure.advice


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_time_left_follows_the_last_whole_round():
    clock = Clock()
    pace = Pace(3, clock)
    assert pace.seconds_left(0) is None
    clock.now = 60.0
    pace.round_finished()
    clock.now = 80.0
    assert pace.seconds_left(1) == 100.0


def test_rounds_that_are_not_alike_tell_nothing_of_each_other():
    clock = Clock()
    pace = Pace(3, clock, are_alike=False)
    clock.now = 60.0
    pace.round_finished()
    for done, now in ((0, 60.0), (1, 70.0)):
        clock.now = now
        pace.progress(Progress("evaluate", done, 59, 1))
    assert pace.seconds_left(1) is None
    assert pace.phase_seconds_left == 580.0


def test_rate_counts_units_of_the_current_phase():
    clock = Clock()
    pace = Pace(1, clock)
    for done, now in ((1, 0.0), (3, 1.0), (5, 2.0)):
        clock.now = now
        pace.progress(Progress("fit_policy", done, 9, 1))
    assert pace.rate == 2.0
    assert pace.phase_seconds_left == 2.0
    pace.progress(Progress("validate", 0, 4, 1))
    assert pace.rate is None
    assert pace.phase_seconds_left is None


def test_a_round_that_takes_longer_than_the_last_is_not_over_before_its_phase():
    clock = Clock()
    pace = Pace(2, clock)
    clock.now = 10.0
    pace.round_finished()
    clock.now = 30.0
    pace.progress(Progress("fit_policy", 0, 4, 2))
    clock.now = 40.0
    pace.progress(Progress("fit_policy", 1, 4, 2))
    assert pace.seconds_left(1) == 30.0


UNKNOWN = {
    "oracle.kind='nado_recurent'": "did you mean 'nado_recurrent'",
    "engine.kind='vlm'": "did you mean 'vllm'",
    "evaluation.scorers=['jigsaw_tc']": "did you mean 'jigsaw_tcc'",
    "constraint.0.scorer='jigsaw_toxblok'": "did you mean 'jigsaw_toxblock'",
    "prompts.source='realtoxicityprompt'": "did you mean 'realtoxicityprompts'",
    "corpus.1.source='sotuu'": "did you mean 'sotu'",
}


@pytest.mark.parametrize("override", UNKNOWN)
def test_a_name_that_nothing_has_is_told_with_the_nearest_one(override):
    (problem,) = problems(override)
    section, setting = override.partition("=")[0].rsplit(".", 1)
    assert problem.startswith(f"[{section}] {setting}")
    assert UNKNOWN[override] in problem


def test_all_unknown_names_are_told_beside_a_wrong_value():
    found = problems("schedule.rounds=0", "prompts.limit='x'", *UNKNOWN)
    assert len(found) == 2 + len(UNKNOWN)


def test_an_unknown_decoder_of_an_evaluation_is_told():
    subjects = {"base": SubjectSettings(decoder="guidd")}
    (problem,) = unknown_names(RunSettings(), EvaluateSettings(subjects=subjects))
    assert problem.startswith("[method.subjects.base] decoder = 'guidd'")
    assert "did you mean 'guided'" in problem


def test_all_files_that_are_not_there_are_told_at_once(tmp_path):
    missing = [
        "model.name='/no/such/model'", "prompts.source='/no/such.jsonl'",
        f"corpus.0.source={str(tmp_path / 'gone.txt')!r}", "evaluation.scorers=['model:/no/such']",
        "constraint.0.scorer='model:/no/such#toxic'",
    ]  # fmt: skip
    with pytest.raises(ConfigError) as error:
        parse_spec(SPEC, missing, has_files=True)
    found = str(error.value).splitlines()
    starts = ["[model] name", "[prompts] source", "[corpus.0] source", "[evaluation] scorers",
              "[constraint.0] scorer"]  # fmt: skip
    assert [line.startswith(start) for line, start in zip(found, starts, strict=True)] == [True] * 5


def test_a_file_without_a_text_is_told_before_anything_is_opened(tmp_path):
    empty = tmp_path / "empty.txt"
    empty.touch()
    with pytest.raises(ConfigError, match=r"\[prompts\] source = .*empty.txt': the file is empty"):
        parse_spec(SPEC, [f"prompts.source={str(empty)!r}"], has_files=True)


def test_a_first_record_that_does_not_read_is_told_with_its_section(tmp_path):
    chats = tmp_path / "chats.jsonl"
    turns = '[{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes."}]'
    chats.write_text(f'{{"messages": {turns}}}\n')
    asked = [f"prompts.source={str(chats)!r}", f"corpus.1.source={str(chats)!r}"]
    with pytest.raises(ConfigError) as error:
        parse_spec(SPEC, asked, has_files=True)
    found = str(error.value).splitlines()
    for line, section in zip(found, ("[prompts]", "[corpus.1]"), strict=True):
        assert line.startswith(f"{section} source = ")
        assert line.endswith('set text_field = "messages", which holds messages')
    with pytest.raises(ConfigError) as error:
        parse_spec(SPEC, [*asked, "schedule.rounds=-2"], has_files=True)
    assert len(str(error.value).splitlines()) == 3
    parse_spec(SPEC, asked)
    named = ["prompts.text_field='messages'", "corpus.1.text_field='messages'"]
    parse_spec(SPEC, [*asked, *named], has_files=True)


def test_a_source_of_nobodys_folder_is_told_in_a_sentence():
    with pytest.raises(ConfigError) as error:
        parse_spec(SPEC, ["prompts.source='~nobody-of-this-name/x.txt'"], has_files=True)
    assert str(error.value).startswith("[prompts] source = '~nobody-of-this-name/x.txt': no such")
    with pytest.raises(ConfigError, match=r"^\[prompts\] source = '~nobody-of-this-name'"):
        parse_spec(SPEC, ["prompts.source='~nobody-of-this-name'"], has_files=True)


def test_settings_of_an_old_run_are_read_although_its_files_are_gone():
    parse_spec(SPEC, ["model.name='/no/such/model'", "corpus.0.source='/no/such.txt'"])


def test_what_comes_from_a_hub_is_not_asked_for():
    names = ["model.name='owner/name'", "corpus.1.source='hub:owner/texts'"]
    parse_spec(SPEC, names, has_files=True)


def test_broken_toml_without_a_file_is_called_the_settings():
    with pytest.raises(ConfigError, match=r"^the settings are not valid TOML"):
        parse_spec("a = ]")


@pytest.mark.parametrize("method", ["acft", "sft", "filtered_sft"])
def test_a_method_that_trains_on_a_corpus_wants_one_before_anything_is_drawn(method):
    with pytest.raises(ConfigError, match=r"\[corpus\] there is none to train on; add one"):
        parse_spec(f'corpus = []\n[method]\nname = "{method}"\n')


def test_a_new_file_that_may_add_a_name_counts_as_a_change_of_the_code(tmp_path):
    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", "-C", tmp_path, *who, *arguments], check=True)

    (tmp_path / "acft").mkdir()
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    (tmp_path / "runs.txt").write_text("")
    commit = spec._git_commit.__wrapped__(tmp_path)
    assert len(commit) == 40
    (tmp_path / "acft" / "own.py").write_text("")
    assert spec._git_commit.__wrapped__(tmp_path) == f"{commit}+changes"


def test_an_engine_without_a_server_to_ask_is_told_before_the_run_starts(monkeypatch):
    monkeypatch.delenv("ACFT_ENGINE_ADDRESS", raising=False)
    asked = ["engine.kind='vllm'"]
    parse_spec(SPEC, asked)
    with pytest.raises(ConfigError, match=r"\[engine\] kind = 'vllm' needs a server, but address"):
        parse_spec(SPEC, asked, has_files=True)
    monkeypatch.setenv("ACFT_ENGINE_ADDRESS", "http://127.0.0.1:8000")
    parse_spec(SPEC, asked, has_files=True)
