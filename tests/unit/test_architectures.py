"""Models of other makes in local folders: the same log-probabilities here as by themselves."""

import json

import pytest
import torch

from acft.backbone import compiled_layers, fitness
from acft.backbone.adapters import add_adapter
from acft.backbone.cached_decoder import ROWS_AT_ONCE, CachedDecoder
from acft.backbone.compiled_layers import compile_layers
from acft.backbone.forward import hidden_states, logits
from acft.backbone.loading import load_backbone, load_tokenizer
from acft.backbone.saving import write_adapter, write_model
from acft.engines.compiled import CompiledEngine
from acft.errors import ModelError
from acft.policy import Policy, trainable_policy
from acft.prompt_tokens import encode_prompt
from acft.settings import AdapterSettings, ModelSettings, SamplingSettings
from acft.types import Prompt
from tests.fakes import END, N_TOKENS, PAD, pretrained_byte_tokenizer

IDS = {"vocab_size": N_TOKENS, "bos_token_id": None, "eos_token_id": END, "pad_token_id": PAD}
SHAPE = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, **IDS,
)  # fmt: skip
DECODERS = {
    "Llama": SHAPE,
    "Qwen2": SHAPE,
    "Mistral": SHAPE | {"sliding_window": 6},
    "Gemma2": SHAPE | {"head_dim": 8, "sliding_window": 6},
    "Gemma3": {
        "text_config": SHAPE | {"head_dim": 8, "sliding_window": 6},
        "vision_config": {
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
        "mm_tokens_per_image": 4,
        "image_token_index": 252,
        "boi_token_index": 253,
        "eoi_token_index": 254,
    },
    "Granite": SHAPE | {"logits_scaling": 8.0},
    "Cohere": SHAPE,
    "GPT2": dict(n_embd=32, n_layer=2, n_head=4, n_positions=64, **IDS),
    "GPTNeoX": SHAPE,
    "Falcon": dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, **IDS),
    "Bloom": dict(hidden_size=32, n_layer=2, n_head=4, **IDS),
    "Lfm2": SHAPE | {"layer_types": ["conv", "full_attention"]},
    "Qwen3_5Text": SHAPE
    | {
        "head_dim": 8, "layer_types": ["linear_attention", "full_attention"],
        "linear_num_value_heads": 2, "linear_num_key_heads": 2, "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
}  # fmt: skip
"""Settings of small models, one of which also sees; logits are scaled, capped or biased, windows
slide, scores fall with distance and layers keep a state instead of keys, by turns."""


def saved(folder, name, shape):
    """A folder with a random model whose logits are far from equal."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**shape)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)
    model.save_pretrained(folder)
    pretrained_byte_tokenizer().save_pretrained(folder)
    return folder


def opened(folder):
    return load_backbone(ModelSettings(name=str(folder)), "cpu", "float32")


def tokens():
    ids = torch.randint(0, 250, (2, 14), generator=torch.Generator().manual_seed(1))
    return ids, torch.ones_like(ids, dtype=torch.bool)


@pytest.mark.equivalence
@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_log_probabilities_are_the_models_own(tmp_path, name):
    model = opened(saved(tmp_path / "model", name, DECODERS[name])).model
    ids, mask = tokens()
    ours = logits(model, hidden_states(model, ids)).log_softmax(dim=-1)
    theirs = model(input_ids=ids, attention_mask=mask.long()).logits.log_softmax(dim=-1)
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.equivalence
@pytest.mark.parametrize("attention", ["as opened", "sdpa"])
@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_padding_on_the_right_needs_no_mask(tmp_path, name, attention):
    model = opened(saved(tmp_path / "model", name, DECODERS[name])).model
    if attention == "sdpa" and name in ("Gemma2", "Bloom"):
        pytest.skip("transformers does not permit it")
    if attention == "sdpa":
        model.set_attn_implementation("sdpa")
    ids, mask = tokens()
    mask[0, 9:], mask[1, 13:] = False, False
    ids = ids.masked_fill(~mask, PAD)
    ours = hidden_states(model, ids)
    theirs = model.base_model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    torch.testing.assert_close(ours[mask], theirs[mask], atol=1e-6, rtol=1e-6)
    assert ours.isfinite().all()


@pytest.mark.equivalence
@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_prompts_without_padding_are_continued_as_with_a_mask(tmp_path, name):
    model = opened(saved(tmp_path / "model", name, DECODERS[name])).model
    ids, mask = tokens()
    whole = model.base_model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    state = CachedDecoder(model, ids[:, :5], mask[:, :5])
    for step in range(5, 14):
        assert torch.allclose(state.hidden, whole[:, step - 1], atol=1e-4)
        state.append(ids[:, step])


@pytest.mark.equivalence
@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_token_by_token_after_padding_is_all_at_once(tmp_path, name):
    model = opened(saved(tmp_path / "model", name, DECODERS[name])).model
    ids, _ = tokens()
    whole = hidden_states(model, ids)
    filled = torch.cat([torch.full((2, 3), PAD), ids[:, :5]], dim=1)
    state = CachedDecoder(model, filled, torch.arange(8).expand(2, 8) >= 3)
    for step in range(5, 14):
        assert torch.allclose(state.hidden, whole[:, step - 1], atol=1e-4)
        state.append(ids[:, step])


@pytest.mark.equivalence
@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_many_prompts_of_unequal_length_are_continued_each_as_by_itself(tmp_path, name):
    model = opened(saved(tmp_path / "model", name, DECODERS[name])).model
    lengths = 1 + torch.arange(2 * ROWS_AT_ONCE + 3) % 19
    ids = torch.randint(0, 250, (len(lengths), 24), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(-19, 0) >= -lengths[:, None]
    filled = torch.full(mask.shape, PAD).masked_scatter(
        mask, ids[torch.arange(24) < lengths[:, None]]
    )
    whole = hidden_states(model, ids)
    chosen = torch.tensor([0, 5, 18, 18, len(lengths) - 1])
    state = CachedDecoder(model, filled, mask)
    state.select(chosen)
    for step in range(5):
        places = lengths[chosen] + step
        assert torch.allclose(state.hidden, whole[chosen, places - 1], atol=1e-4)
        state.append(ids[chosen, places])


@pytest.mark.parametrize(("name", "n_read"), [("Llama", 16 * 2 + 16 * 9 + 3 * 9), ("Mistral", 315)])
@torch.no_grad()
def test_long_prompts_lengthen_few_others_where_each_token_is_kept(tmp_path, name, n_read):
    model = opened(saved(tmp_path / "model", name, DECODERS[name])).model
    mask = torch.arange(9) >= 9 - torch.tensor([1] * 15 + [2, *[2] * 15, 9, 9, 9, 9])[:, None]
    passed = []
    embedding = model.get_input_embeddings()
    embedding.register_forward_hook(lambda _, given, __: passed.append(given[0].numel()))
    CachedDecoder(model, torch.full(mask.shape, PAD), mask)
    assert sum(passed) == n_read


@pytest.mark.equivalence
@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_what_is_exported_has_the_tuned_logits(tmp_path, name):
    from transformers import AutoModelForCausalLM

    base = Policy(opened(saved(tmp_path / "model", name, DECODERS[name])))
    tuned = with_changed_adapter(base)
    (tmp_path / "exported").mkdir()
    write_model(tuned.snapshot(base).backbone, tmp_path / "exported")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "exported").eval()
    ids, mask = tokens()
    model = tuned.backbone.model.eval()
    ours = logits(model, hidden_states(model, ids))
    assert not torch.allclose(ours, logits(base.backbone.model, base.hidden(_batch())), atol=1e-2)
    theirs = plain(input_ids=ids, attention_mask=mask.long()).logits
    assert torch.allclose(ours.log_softmax(-1), theirs.log_softmax(-1), atol=1e-4)


OTHER_LINEAR = {
    "Phimoe": (SHAPE | {"num_local_experts": 4, "num_experts_per_tok": 2}, "router"),
    "DeepseekV4": (
        SHAPE | {
            "moe_intermediate_size": 32, "n_routed_experts": 4, "num_experts_per_tok": 2,
            "q_lora_rank": 16, "o_lora_rank": 16, "head_dim": 16, "qk_rope_head_dim": 8,
            "num_hash_layers": 1, "o_groups": 2, "index_n_heads": 2, "index_head_dim": 8,
            "index_topk": 4, "sliding_window": 8,
        },
        "o_a_proj",
    ),
}  # fmt: skip
"""Models with layers of a class made from a linear one that compute something else; their ends."""
LAGUNA = SHAPE | {
    "head_dim": 8, "moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2,
    "shared_expert_intermediate_size": 32,
}  # fmt: skip


def with_changed_adapter(base):
    tuned = trainable_policy(base, AdapterSettings(rank=4), seed=0)
    generator = torch.Generator().manual_seed(2)
    for parameter in tuned.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return tuned


# peft's use of transformers
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize("name", OTHER_LINEAR)
@torch.no_grad()
def test_an_adapter_leaves_layers_alone_that_compute_another_thing_than_a_product(tmp_path, name):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    shape, ending = OTHER_LINEAR[name]
    folder = saved(tmp_path / "model", name, shape)
    base = Policy(opened(folder))
    tuned = with_changed_adapter(base)
    layers = [n for n, _ in tuned.backbone.model.named_parameters() if "lora_" in n]
    assert layers
    assert not any(f".{ending}." in layer for layer in layers)
    tuned.save(tmp_path / "policy")
    (tmp_path / "adapter").mkdir()
    write_adapter(tmp_path / "policy", base.backbone, "", tmp_path / "adapter")
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    ids, mask = tokens()
    ours = logits(tuned.backbone.model.eval(), hidden_states(tuned.backbone.model, ids))
    merged = tuned.snapshot(base).backbone.model
    for other in (
        theirs(input_ids=ids, attention_mask=mask.long()).logits,
        logits(merged, hidden_states(merged, ids)),
    ):
        assert torch.allclose(ours.log_softmax(-1), other.log_softmax(-1), atol=1e-4)
    before = logits(base.backbone.model, hidden_states(base.backbone.model, ids))
    assert not torch.allclose(ours.log_softmax(-1), before.log_softmax(-1), atol=1e-2)


@torch.no_grad()
def test_an_adapter_that_peft_would_read_in_part_is_not_exported(tmp_path):
    base = Policy(opened(saved(tmp_path / "model", "Laguna", LAGUNA)))
    with_changed_adapter(base).save(tmp_path / "policy")
    (tmp_path / "adapter").mkdir()
    with pytest.raises(ModelError, match=r"reads 6 of 32 weights .* 'laguna' .* export it merged"):
        write_adapter(tmp_path / "policy", base.backbone, "", tmp_path / "adapter")


def _batch():
    from acft.types import TokenBatch

    ids, mask = tokens()
    return TokenBatch(ids, mask, mask)


DROPOUT = {
    "GPT2": {},
    "OPT": dict(
        hidden_size=32, word_embed_proj_dim=32, ffn_dim=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=64, attention_dropout=0.1, layerdrop=0.5,
        **IDS,
    ),
    "GPTNeoX": {"hidden_dropout": 0.1, "attention_dropout": 0.1},
    "Falcon": {"hidden_dropout": 0.1, "attention_dropout": 0.1},
    "Bloom": {"hidden_dropout": 0.1, "attention_dropout": 0.1},
}  # fmt: skip
"""Models that drop while they train: by modules, by functions, by what their settings say."""


# Bloom's activation
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("name", DROPOUT)
@torch.no_grad()
def test_training_drops_nothing_but_what_the_adapter_is_set_to(tmp_path, name, kind):
    shape = DECODERS.get(name, {}) | DROPOUT[name]
    base = Policy(opened(saved(tmp_path / "model", name, shape)))
    written = base.backbone.model.config.to_dict()
    settings = AdapterSettings.model_validate({"kind": kind, "rank": 4, "dropout": 0.5})
    policy = trainable_policy(base, settings, seed=0)
    policy.backbone.model.train()
    torch.testing.assert_close(policy.hidden(_batch()), base.hidden(_batch()), atol=1e-5, rtol=1e-5)
    for parameter in policy.parameters():
        parameter.add_(0.1)
    again = torch.equal(policy.hidden(_batch()), policy.hidden(_batch()))
    assert again == (kind == "full")
    assert base.backbone.model.config.to_dict() == written
    assert policy.snapshot(base).backbone.model.config.to_dict() == written


REFUSED = {
    "Bert": (SHAPE, "key-value cache"),
    "Mamba": (dict(hidden_size=32, state_size=4, num_hidden_layers=1, **IDS), "key-value cache"),
    "TrOCR": (
        dict(
            d_model=32, decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=64,
            max_position_embeddings=64, cross_attention_hidden_size=32, **IDS,
        ),
        "predicts otherwise when it reads padded prompts",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_cannot_be_drawn_from_is_refused_when_it_is_opened(tmp_path, name):
    shape, told = REFUSED[name]
    with pytest.raises(ModelError, match=told):
        opened(saved(tmp_path / "model", name, shape))


def test_a_model_whose_inner_part_is_not_found_is_refused(tmp_path):
    shape = SHAPE | {"head_dim": 8, "intermediate_size_mlp": 64, "moe_layers": []}
    with pytest.raises(ModelError, match=r"cannot be read as a plain decoder"):
        opened(saved(tmp_path / "model", "Llama4Text", shape))


def test_a_model_that_looks_ahead_is_refused(tmp_path, monkeypatch):
    from transformers.models.gpt2 import modeling_gpt2

    folder = saved(tmp_path / "model", "GPT2", DECODERS["GPT2"])
    monkeypatch.setattr(modeling_gpt2, "create_causal_mask", lambda **_: None)
    with pytest.raises(ModelError, match="looks at later tokens"):
        opened(folder)


def test_a_model_that_draws_from_what_is_no_number_is_refused(tmp_path, monkeypatch):
    class Lost(CachedDecoder):
        def __init__(self, *given):
            super().__init__(*given)
            self.hidden = self.hidden * torch.nan

    monkeypatch.setattr(fitness, "CachedDecoder", Lost)
    with pytest.raises(ModelError, match="predicts otherwise when it reads padded prompts"):
        opened(saved(tmp_path / "model", "GPT2", DECODERS["GPT2"]))


def test_an_unknown_way_from_hidden_states_to_logits_is_refused(tmp_path, monkeypatch):
    from transformers import GraniteForCausalLM

    folder = saved(tmp_path / "model", "Granite", DECODERS["Granite"])
    forward = GraniteForCausalLM.forward

    def squared(self, *arguments, **options):
        output = forward(self, *arguments, **options)
        output.logits = torch.as_tensor(output.logits).square()
        return output

    monkeypatch.setattr(GraniteForCausalLM, "forward", squared)
    with pytest.raises(ModelError, match="does not know"):
        opened(folder)


def test_padding_beyond_the_vocabulary_is_one_sentence(tmp_path):
    folder = saved(tmp_path / "model", "Llama", SHAPE)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": N_TOKENS}))
    with pytest.raises(ModelError, match="does not open as a causal language model"):
        opened(folder)


def test_a_tokenizer_without_end_and_padding_is_exported_as_it_was(tmp_path):
    from transformers import AutoTokenizer

    folder = saved(tmp_path / "model", "Llama", SHAPE)
    file = folder / "tokenizer_config.json"
    written = json.loads(file.read_text())
    file.write_text(json.dumps(written | {"eos_token": None, "pad_token": None}))
    (tmp_path / "exported").mkdir()
    write_model(opened(folder), tmp_path / "exported")
    exported = AutoTokenizer.from_pretrained(tmp_path / "exported")
    assert exported.decode([*range(3)], skip_special_tokens=True) == "\x00\x01\x02"


def test_nothing_stands_between_a_prompt_and_its_response(tmp_path):
    from tokenizers import processors
    from transformers import AutoTokenizer

    folder = saved(tmp_path / "model", "Llama", SHAPE)
    tokenizer = pretrained_byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<pad> $A <end>", special_tokens=[("<pad>", PAD), ("<end>", END)]
    )
    tokenizer.save_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder).encode("a") == [PAD, 97, END]
    assert load_tokenizer(ModelSettings(name=str(folder))).encode("a") == [PAD, 97]
    backbone = opened(folder)
    assert encode_prompt(backbone, Prompt("a", "a", "train"), chat_template=False) == (PAD, 97)
    (tmp_path / "exported").mkdir()
    write_model(backbone, tmp_path / "exported")
    assert AutoTokenizer.from_pretrained(tmp_path / "exported").encode("a") == [PAD, 97]


def test_a_folder_without_some_of_the_weights_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = saved(tmp_path / "model", "Llama", DECODERS["Llama"])
    file = folder / "model.safetensors"
    weights = {name: w for name, w in load_file(file).items() if "layers.1.mlp" not in name}
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 3 of its weights, such as 'model\.layers\.1\.mlp"):
        opened(folder)


def test_a_folder_with_another_configuration_is_one_sentence(tmp_path):
    folder = saved(tmp_path / "model", "Llama", DECODERS["Llama"])
    assert json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text('{"model_type": "nonsense"}')
    with pytest.raises(ModelError, match="does not open as a causal language model"):
        opened(folder)


def test_a_tokenizer_that_knows_no_letter_keeps_what_it_puts_before_texts(tmp_path):
    from tokenizers import Tokenizer, models, processors
    from transformers import PreTrainedTokenizerFast

    letters = Tokenizer(models.BPE({"ж": 0, "<start>": 1}, merges=[]))
    letters.post_processor = processors.TemplateProcessing(
        single="<start> $A", special_tokens=[("<start>", 1)]
    )
    folder = saved(tmp_path / "model", "Llama", SHAPE)
    PreTrainedTokenizerFast(tokenizer_object=letters).save_pretrained(folder)
    assert load_tokenizer(ModelSettings(name=str(folder))).encode("ж") == [1, 0]


CROSSED = {
    "CTRL": dict(n_embd=32, dff=64, n_layer=4, n_head=4, n_positions=64, **IDS),
    "HYV4": SHAPE
    | {
        "num_key_value_heads": 4, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8, "v_head_dim": 8, "mlp_layer_types": ["dense"] * 2,
    },
}  # fmt: skip
"""Models that have adapted layers whose names end like a block's, or are like that of a weight."""


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("name", CROSSED)
@torch.no_grad()
def test_a_saved_adapter_is_read_again_here_and_by_peft(tmp_path, name):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = Policy(opened(saved(tmp_path / "model", name, CROSSED[name])))
    tuned, again = (trainable_policy(base, AdapterSettings(rank=4), seed=0) for _ in range(2))
    generator = torch.Generator().manual_seed(2)
    for parameter in tuned.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    tuned.save(tmp_path / "adapter")
    again.load(tmp_path / "adapter", version=1)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    elsewhere = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    expected = tuned.next_logprobs(_batch())
    theirs = elsewhere(input_ids=_batch().token_ids).logits.log_softmax(-1)
    torch.testing.assert_close(again.next_logprobs(_batch()), expected)
    torch.testing.assert_close(theirs, expected, atol=1e-4, rtol=1e-4)


def test_adapters_sit_where_text_passes_only(tmp_path):
    model = opened(saved(tmp_path / "model", "Gemma3", DECODERS["Gemma3"])).model
    add_adapter(model, AdapterSettings(rank=4), seed=0)
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert len(trained) == 2 * 2 * 7
    assert all(name.startswith("model.language_model.") for name in trained)


def test_adapters_that_peft_refuses_are_one_sentence(tmp_path):
    mamba = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8}
    model = opened(saved(tmp_path / "model", "FalconH1", SHAPE | mamba)).model
    with pytest.raises(ModelError, match=r"cannot be added to a 'falcon_h1': .*kind to 'full'"):
        add_adapter(model, AdapterSettings(rank=4), seed=0)


@pytest.mark.filterwarnings("ignore:The following:RuntimeWarning")
def test_adapters_on_blocks_of_experts_are_refused(tmp_path):
    shape = SHAPE | {"num_local_experts": 2}
    model = opened(saved(tmp_path / "model", "Mixtral", shape)).model
    with pytest.raises(ModelError, match="experts in one block"):
        add_adapter(model, AdapterSettings(rank=4), seed=0)


# Bloom's activation
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", DECODERS)
def test_a_compiled_step_draws_the_same_or_the_model_is_refused(name, tmp_path):
    backbone = opened(saved(tmp_path, name, DECODERS[name]))
    sampling = SamplingSettings(horizon=8, batch_size=8)
    prompts = [Prompt(text, text, "train") for text in ("Rain", "The sea and the land")]
    expected = Policy(backbone).sample(prompts, 4, sampling, seed=1).rollouts
    policy = Policy(backbone, engine=CompiledEngine("eager"))
    if "sliding_window" in str(DECODERS[name]) or "layer_types" in DECODERS[name]:
        with pytest.raises(ModelError, match=r"\[engine\] kind = 'compiled' cannot"):
            policy.sample(prompts, 4, sampling, seed=1)
        return
    drawn = policy.sample(prompts, 4, sampling, seed=1).rollouts
    assert [r.response_ids for r in drawn] == [r.response_ids for r in expected]


# Bloom's activation
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", DECODERS)
def test_compiled_layers_say_the_same(name, tmp_path, monkeypatch):
    monkeypatch.setattr(compiled_layers, "BACKEND", "eager")
    model = opened(saved(tmp_path, name, DECODERS[name])).model
    expected = hidden_states(model, tokens()[0])
    compile_layers(model)
    torch.testing.assert_close(hidden_states(model, tokens()[0]), expected, atol=1e-4, rtol=1e-4)
    assert sum(hasattr(module, "uncompiled") for module in model.modules()) == 2
