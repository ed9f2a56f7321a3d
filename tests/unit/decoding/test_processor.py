import json
from typing import Any, ClassVar, cast

import pytest
import torch
from torch import nn
from transformers import LogitsProcessorList

from acft.backbone.adapters import merged_copy, trainable_copy, trainable_parameters
from acft.backbone.generation import plain_model
from acft.backbone.loading import load_backbone
from acft.decoding.base import DecoderContext
from acft.decoding.guided import GuidedSettings, guided_decoder
from acft.decoding.portable import RECORD, WEIGHTS, portable_oracle
from acft.decoding.processor import OracleLogitsProcessor
from acft.errors import DataError, ModelError
from acft.oracle.base import ORACLES, OracleContext
from acft.policy import Policy
from acft.settings import AdapterSettings, ModelSettings, OracleSettings
from acft.types import Window
from tests.fakes import save_tiny_model

HORIZON = 5
PROMPTS = ["The river rose in the night", "Rain"]


def few_vowels(prompts, responses):
    return [1.0 - sum(c in "aeiou" for c in text) / (1 + len(text)) for text in responses]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = save_tiny_model(tmp_path_factory.mktemp("model"))
    return load_backbone(ModelSettings(name=str(folder)), "cpu", "float32")


@pytest.fixture(scope="module", params=["nado_recurrent", "nado_transformer", "nado_head"])
def portable(request, backbone):
    """An oracle with random weights, which changes probabilities a lot."""
    settings = OracleSettings(kind=request.param, width=8)
    vocab = backbone.model.config.vocab_size
    verdicts = torch.linspace(0.05, 0.95, vocab)
    oracle = ORACLES.get(settings.kind).build(
        OracleContext(settings, backbone, HORIZON, verdicts, seed=0)
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in oracle.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return portable_oracle(
        oracle.eval(), settings, backbone, guidance=GuidedSettings(strength=2.0), horizon=HORIZON,
        constraint=({"kind": "forbidden_words", "words": ["rain"]},), token_verdicts=verdicts,
    )  # fmt: skip


class Recorder:
    """Keeps what the processor before it returned."""

    def __init__(self):
        self.seen = []

    def __call__(self, input_ids, scores):
        self.seen.append(scores.clone())
        return scores


def generate(backbone, processors, n_tokens, **options):
    tokenizer = backbone.tokenizer
    tokenizer.padding_side = "left"
    inputs = tokenizer(PROMPTS, return_tensors="pt", padding=True)
    torch.manual_seed(1)  # with it no response ends early, behind which nothing can be compared
    ids = backbone.model.generate(
        **inputs, max_new_tokens=n_tokens, do_sample=True, top_k=0, eos_token_id=None,
        logits_processor=LogitsProcessorList(processors), **options,
    )  # fmt: skip
    return ids[:, inputs["input_ids"].shape[1] :]


def own_distributions(backbone, portable, response_ids):
    """What the workbench's decoder draws from before each of the given tokens."""
    found = []

    class Forced:
        """A decoder that records and then allows one token only."""

        truncates: ClassVar[bool] = False

        def start(self, prompts, prompt_ids):
            context = DecoderContext(policy, portable.oracle, few_vowels, HORIZON)
            self.session = guided_decoder(portable.record.guidance, context).start(
                prompts, prompt_ids
            )
            self.step = 0
            return self

        def reweight(self, next_logprobs, hidden, token_ids):
            found.append(self.session.reweight(next_logprobs, hidden, token_ids))
            only = torch.full_like(next_logprobs, -torch.inf)
            only.scatter_(1, response_ids[:, self.step : self.step + 1], 0.0)
            self.step += 1
            return only

    from acft.data import prompt_of
    from acft.settings import SamplingSettings

    policy = Policy(backbone)
    policy.sample(
        [prompt_of(text) for text in PROMPTS], 1,
        SamplingSettings(horizon=response_ids.shape[1]), 0, decoder=Forced(),
    )  # fmt: skip
    return found


def by_length(backbone):
    """The workbench sorts prompts by length, the longest first; these are sorted already."""
    return [len(backbone.tokenizer(text)["input_ids"]) for text in PROMPTS]


@pytest.mark.parametrize("n_tokens", [HORIZON, 2 * HORIZON + 2])
def test_generate_draws_from_the_same_distribution_as_the_workbench(backbone, portable, n_tokens):
    recorder = Recorder()
    processor = OracleLogitsProcessor(backbone.model, backbone.tokenizer, portable, few_vowels)
    response_ids = generate(backbone, [processor, recorder], n_tokens)
    processor.close()
    assert not {*response_ids.flatten().tolist()} & {*backbone.end_ids}
    assert by_length(backbone) == sorted(by_length(backbone), reverse=True)
    expected = own_distributions(backbone, portable, response_ids)
    assert len(recorder.seen) == len(expected) == n_tokens
    for here, there in zip(recorder.seen, expected, strict=True):
        torch.testing.assert_close(here, there, atol=1e-4, rtol=0)
    assert (expected[0] - expected[0].logsumexp(-1, keepdim=True)).abs().max() > 1


def test_a_saved_processor_guides_like_the_original(backbone, portable, tmp_path):
    first, second = Recorder(), Recorder()
    processor = OracleLogitsProcessor(backbone.model, backbone.tokenizer, portable, few_vowels)
    processor.save(tmp_path)
    loaded = OracleLogitsProcessor.load(
        tmp_path, backbone.model, backbone.tokenizer, verdicts=few_vowels
    )
    generate(backbone, [processor, first], 4)
    generate(backbone, [loaded, second], 4)
    processor.close()
    loaded.close()
    assert all(torch.equal(a, b) for a, b in zip(first.seen, second.seen, strict=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([RECORD, WEIGHTS])


def test_the_constraint_comes_along_and_is_asked(backbone, portable, tmp_path):
    portable.save(tmp_path)
    processor = OracleLogitsProcessor.load(tmp_path, backbone.model, backbone.tokenizer)
    processor.close()
    assert processor.decoder.verdicts is not None
    assert processor.decoder.verdicts(["", ""], ["sun", "no rain"]) == [1.0, 0.0]


def test_a_processor_serves_one_generation_after_the_other(backbone, portable):
    processor = OracleLogitsProcessor(backbone.model, backbone.tokenizer, portable, few_vowels)
    recorder = Recorder()
    for _ in range(2):
        generate(backbone, [processor, recorder], 3)
    processor.close()
    assert all(torch.equal(recorder.seen[i], recorder.seen[i + 3]) for i in range(3))


def test_without_a_cache_the_distributions_are_the_same(backbone, portable):
    processor = OracleLogitsProcessor(backbone.model, backbone.tokenizer, portable, few_vowels)
    with_cache, without = Recorder(), Recorder()
    generate(backbone, [processor, with_cache], 3)
    generate(backbone, [processor, without], 3, use_cache=False)
    processor.close()
    for here, there in zip(with_cache.seen, without.seen, strict=True):
        torch.testing.assert_close(here, there, atol=1e-4, rtol=0)


def test_beams_are_refused(backbone, portable):
    processor = OracleLogitsProcessor(backbone.model, backbone.tokenizer, portable, few_vowels)
    with pytest.raises(DataError, match="not with beams"):
        generate(backbone, [processor], 6, num_beams=3)
    processor.close()


def test_right_padded_prompts_are_refused(backbone, portable):
    processor = OracleLogitsProcessor(backbone.model, backbone.tokenizer, portable, few_vowels)
    backbone.tokenizer.padding_side = "right"
    inputs = backbone.tokenizer(PROMPTS, return_tensors="pt", padding=True)
    with pytest.raises(DataError, match="padding_side = 'left'"):
        backbone.model.generate(
            **inputs, max_new_tokens=2, logits_processor=LogitsProcessorList([processor])
        )
    processor.close()


def test_another_model_is_refused(backbone, portable, tmp_path):
    portable.save(tmp_path / "oracle")
    save_tiny_model(tmp_path / "other", seed=1)
    other = load_backbone(ModelSettings(name=str(tmp_path / "other")), "cpu", "float32")
    with pytest.raises(ModelError, match="another input embedding"):
        OracleLogitsProcessor.load(tmp_path / "oracle", other.model, other.tokenizer)


def test_an_oracle_of_another_format_is_refused(backbone, portable, tmp_path):
    portable.save(tmp_path)
    record = json.loads((tmp_path / RECORD).read_text())
    (tmp_path / RECORD).write_text(json.dumps(record | {"format": 2}))
    with pytest.raises(ModelError, match=r"has format 2, .*reads format 1"):
        OracleLogitsProcessor.load(tmp_path, backbone.model, backbone.tokenizer)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")  # two adapters are meant
@pytest.mark.parametrize("kind", [k for k, entry in ORACLES.items() if entry.runs_backbone])
def test_an_oracle_that_runs_the_base_is_not_put_on_tuned_weights(backbone, tmp_path, kind):
    settings = OracleSettings(kind=kind, rank=2, width=8)
    oracle = ORACLES.get(kind).build(OracleContext(settings, backbone, HORIZON, None, seed=0))
    for parameter in oracle.parameters():
        nn.init.normal_(parameter, std=0.2)
    portable_oracle(
        oracle.eval(), settings, backbone, guidance=GuidedSettings(), horizon=HORIZON,
        constraint=({"kind": "length", "maximum": 9},), token_verdicts=None,
    ).save(tmp_path)  # fmt: skip
    tuned = trainable_copy(backbone.model, AdapterSettings(rank=2), seed=0)
    for parameter in trainable_parameters(tuned):
        nn.init.normal_(parameter, std=0.2)
    merged = merged_copy(backbone.model, tuned)

    def loaded(model, base=None):
        processor = OracleLogitsProcessor.load(tmp_path, model, backbone.tokenizer, base=base)
        processor.close()
        return prefix_log_r(processor.portable.oracle)

    with pytest.raises(ModelError, match="are others, such as tuned ones; give it that model as"):
        loaded(merged)
    for found in (loaded(merged, base=backbone.model), loaded(tuned), loaded(backbone.model)):
        torch.testing.assert_close(found, prefix_log_r(oracle))


@pytest.mark.parametrize(("kind", "features"), [("dinado_recurrent", 8), ("dinado_lora", 32)])
def test_an_oracle_reads_the_head_of_the_model_it_guides(backbone, tmp_path, kind, features):
    """Training every weight changes the head as well, and with it what a hidden state means."""
    settings = OracleSettings(kind=kind, rank=2, width=8)
    oracle = ORACLES.get(kind).build(OracleContext(settings, backbone, HORIZON, None, seed=0))
    portable_oracle(
        oracle.eval(), settings, backbone, guidance=GuidedSettings(), horizon=HORIZON,
        constraint=({"kind": "length", "maximum": 9},), token_verdicts=None,
    ).save(tmp_path)  # fmt: skip
    save_tiny_model(tmp_path / "tuned", seed=1)
    tuned = load_backbone(ModelSettings(name=str(tmp_path / "tuned")), "cpu", "float32")
    processor = OracleLogitsProcessor.load(
        tmp_path, tuned.model, tuned.tokenizer, base=backbone.model
    )
    processor.close()
    states = torch.randn(3, features + 32 + 1, generator=torch.Generator().manual_seed(0))
    found = processor.portable.oracle.next_log_r(states)
    assert not torch.equal(found, oracle.next_log_r(states))
    oracle.follow(tuned)
    assert torch.equal(found, oracle.next_log_r(states))


@torch.no_grad()
def prefix_log_r(oracle):
    ids = torch.arange(65, 73).view(2, 4)
    mask = torch.ones_like(ids, dtype=torch.bool)
    hidden = torch.zeros(2, 4, 32)
    window = Window(hidden, ids, mask, torch.full((2, 4), 0.5), ids[:, :1], mask[:, :1])
    return oracle.prefix_log_r(oracle.states(window))


def test_a_processor_of_another_model_notices(backbone, portable, tmp_path):
    save_tiny_model(tmp_path / "other")
    other = load_backbone(ModelSettings(name=str(tmp_path / "other")), "cpu", "float32")
    processor = OracleLogitsProcessor(other.model, other.tokenizer, portable, few_vowels)
    with pytest.raises(DataError, match="not the one this processor listens to"):
        generate(backbone, [processor], 2)
    processor.close()


def test_a_processor_that_has_heard_its_own_model_notices_another(backbone, portable, tmp_path):
    save_tiny_model(tmp_path / "other")
    other = load_backbone(ModelSettings(name=str(tmp_path / "other")), "cpu", "float32")
    processor = OracleLogitsProcessor(other.model, other.tokenizer, portable, few_vowels)
    generate(other, [processor], 1)  # the prompts alone, whose states are of the right size
    with pytest.raises(DataError, match="not the one this processor listens to"):
        generate(backbone, [processor], 1)
    processor.close()


@pytest.mark.parametrize("n_tokens", [1, 3])
def test_a_closed_processor_says_that_it_listens_no_more(backbone, portable, n_tokens):
    processor = OracleLogitsProcessor(backbone.model, backbone.tokenizer, portable, few_vowels)
    generate(backbone, [processor], n_tokens)
    processor.close()
    with pytest.raises(DataError, match=r"not the one this processor listens to; .* close it only"):
        generate(backbone, [processor], n_tokens)


def test_what_was_heard_before_a_processor_was_closed_guides_nothing(backbone, portable):
    processor = OracleLogitsProcessor(backbone.model, backbone.tokenizer, portable, few_vowels)
    generate(backbone, [], 1)
    processor.close()
    with pytest.raises(DataError, match="not the one this processor listens to"):
        generate(backbone, [processor], 1)


@pytest.mark.parametrize("name", [RECORD, WEIGHTS])
def test_a_damaged_file_is_named(backbone, portable, tmp_path, name):
    portable.save(tmp_path)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ModelError, match=r"oracle"):
        OracleLogitsProcessor.load(tmp_path, backbone.model, backbone.tokenizer)


def test_the_record_says_what_the_oracle_was_trained_for(portable, tmp_path):
    portable.save(tmp_path)
    record = json.loads((tmp_path / RECORD).read_text())
    assert record["guidance"] == {"strength": 2.0, "delta": 1.0, "rare": 0.0}
    assert record["constraint"] == [{"kind": "forbidden_words", "words": ["rain"]}]
    assert record["horizon"] == HORIZON


def test_only_models_of_transformers_are_listened_to():
    with pytest.raises(TypeError, match="not a model of transformers"):
        plain_model(torch.nn.Linear(2, 2))


BAD_VERDICTS = {
    "not a number": (lambda prompts, responses: [float("nan")] * len(responses), "gave nan"),
    "one too few": (lambda prompts, responses: [0.5], "gave 1 values for 2 texts"),
    "log-probabilities": (
        lambda prompts, responses: [-1.0] * 2,
        r".*not in \[0, 1\]; it must say how",
    ),
    "a failure": (
        lambda prompts, responses: [1 / 0],
        r"ZeroDivisionError.*test_processor.py, line",
    ),
}


@pytest.mark.parametrize("name", BAD_VERDICTS)
def test_verdicts_that_are_no_grades_are_refused(backbone, portable, name):
    verdicts, told = BAD_VERDICTS[name]
    processor = OracleLogitsProcessor(backbone.model, backbone.tokenizer, portable, verdicts)
    with pytest.raises(ModelError, match="the function given as verdicts .*" + told):
        generate(backbone, [processor], 2)
    processor.close()


def test_verdicts_may_be_a_tensor(backbone, portable):
    recorders = [Recorder(), Recorder()]
    for recorder, form in zip(recorders, (list, torch.tensor), strict=True):
        processor = OracleLogitsProcessor(
            backbone.model,
            backbone.tokenizer,
            portable,
            cast("Any", lambda p, r, form=form: form(few_vowels(p, r))),
        )
        generate(backbone, [processor, recorder], 2)
        processor.close()
    assert torch.equal(recorders[0].seen[1], recorders[1].seen[1])
