"""Trainable parts of a model: low-rank adapters or all weights; copies and files of both.

Copies share whatever neither of them changes, so a frozen weight lies in memory once.
"""

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from peft.tuners.lora import LoraLayer, ParamWrapper
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from acft.backbone.forward import output_head, text_decoder
from acft.backbone.quantized import is_quantized, shared_tensors
from acft.backbone.sharded import copied_layer, laid_out, sharded_layers, whole
from acft.distributed import ranks
from acft.errors import ModelError
from acft.seeding import local_torch_seed
from acft.settings import AdapterSettings

ADAPTER = "default"
FULL_WEIGHTS = "model.safetensors"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"


def add_adapter(model: PreTrainedModel, settings: AdapterSettings, seed: int) -> PreTrainedModel:
    """The same model with its trainable part switched on, in place.

    LoRA's second factor starts at zero, so the function computed does not change; the first is
    drawn from ``seed`` alone.

    Raises:
        ModelError: All weights are to be trained, and they are quantised; or the adapter would sit
            on experts whose weights lie in one block, or on layers that peft leaves alone.
    """
    if settings.kind == "full":
        if is_quantized(model):
            raise ModelError(
                "[adapter] kind = 'full' trains every weight, but [model] quantization stores them "
                "in few bits; set kind to 'lora', or quantization to 'none'"
            )
        for parameter in model.parameters():
            # a fused optimiser goes through weights, gradients and moments as they lie in memory
            parameter.data = parameter.data.contiguous()
        return model.requires_grad_(requires_grad=True)
    with local_torch_seed(seed):
        try:
            inject_adapter_in_model(_lora_config(settings, model), model, adapter_name=ADAPTER)
        except ValueError as error:
            raise ModelError(
                f"low-rank adapters cannot be added to a {model.config.model_type!r}: {error}; "
                "choose another [model], or set [adapter] kind to 'full'"
            ) from error
    _require_linear_layers(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if parameter.requires_grad:
            # The optimiser needs float32 masters; the forward pass casts its input.
            parameter.data = parameter.data.float()
    return model


def _require_linear_layers(model: PreTrainedModel) -> None:
    # peft adapts blocks of experts by wrapping one parameter, which cannot be merged as a layer's
    if any(isinstance(module, ParamWrapper) for module in model.modules()):
        raise ModelError(
            f"[model] a {model.config.model_type!r} keeps the weights of its experts in one block, "
            "to which low-rank adapters cannot be added here; choose a model without experts, or "
            "set [adapter] kind to 'full'"
        )


def checkpoint_activations(model: PreTrainedModel, *, has_dropout: bool) -> None:
    """From now on the model keeps only each layer's input while it trains.

    Raises:
        ModelError: Its architecture has no layers that can be computed again.
    """
    if not model.supports_gradient_checkpointing:
        raise ModelError(
            f"[optimizer] checkpointing = true: a {model.config.model_type!r} cannot compute its "
            "layers again; set it to false"
        )
    # restoring the random generator, which all threads share, is of use with dropout alone
    options = {"use_reentrant": False, "preserve_rng_state": has_dropout}
    model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    # only reentrant checkpoints need inputs with gradients, and every copy would ask for them
    model.disable_input_require_grads()


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """All parameters that receive gradients, in a fixed order."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Detached copies of all trainable weights by name."""
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def trainable_copy(model: PreTrainedModel, settings: AdapterSettings, seed: int) -> PreTrainedModel:
    """A copy with its trainable part switched on; an adapter's frozen weights are ``model``'s own.

    It drops nothing but what the adapter is set to: the model's own dropout is off.

    Raises:
        ModelError: All weights are to be trained, and they are quantised.
    """
    shared = model.parameters() if settings.kind == "lora" else ()
    copied = _copy_sharing(model, shared, {})
    for owner in (copied.config, *copied.modules()):
        vars(owner).update(dict.fromkeys(_dropout(owner), 0.0))
    return add_adapter(copied, settings, seed)


def _dropout(owner: object) -> dict[str, float]:
    """Probabilities by attribute; models pass them to functions as often as to a module."""
    return {
        name: value
        for name, value in vars(owner).items()
        if isinstance(value, float) and ("drop" in name or isinstance(owner, nn.Dropout))
    }


@torch.no_grad()
def merged_copy(base: PreTrainedModel, model: PreTrainedModel) -> PreTrainedModel:
    """A frozen plain copy of ``model``, its adapter merged.

    ``base`` is the model that the adapter was added to; the copy shares what no adapter changes.
    """
    adapted = {name: m for name, m in model.named_modules() if isinstance(m, LoraLayer)}
    if not adapted:
        copied = _copy_sharing(model, (), {}).eval().requires_grad_(requires_grad=False)
        vars(copied.config).update(_dropout(base.config))  # an export says what the base says
        return copied
    merged = _copy_sharing(base, base.parameters(), {})
    for name, layer in adapted.items():
        wrapped: Any = layer
        weight = wrapped.get_base_layer().weight
        delta = wrapped.get_delta_weight(ADAPTER).to(weight.dtype)
        plain: Any = merged.get_submodule(name)
        plain.weight = nn.Parameter(weight + delta, requires_grad=False)
    return merged.eval()


def frozen_with_adapter(model: PreTrainedModel) -> PreTrainedModel:
    """A copy with frozen adapters of its own that shares the model's frozen weights."""
    frozen = (parameter for parameter in model.parameters() if not parameter.requires_grad)
    return _copy_sharing(model, frozen, {}).eval().requires_grad_(requires_grad=False)


def sharing_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A copy in evaluation mode with every weight shared; settings and attention are its own."""
    return _copy_sharing(model, model.parameters(), {}).eval()


def rounded_copy(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """A frozen copy with weights of another dtype; tables that are no weights stay as exact."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
        for parameter in model.parameters()
        if parameter.is_floating_point()
    }
    copied = copy.deepcopy(model, memo)
    copied.config.dtype = dtype
    return copied.eval()


class AdaptedCopy:
    """A model with adapters of its own on another model's frozen weights, which it shares.

    It is no module, so that whoever holds one saves and counts the adapters alone.
    """

    def __init__(self, model: PreTrainedModel, settings: AdapterSettings, seed: int) -> None:
        self.model = trainable_copy(model, settings, seed)

    def parameters(self) -> list[nn.Parameter]:
        """The adapters' weights in a fixed order."""
        return trainable_parameters(self.model)

    def __deepcopy__(self, memo: dict[int, Any]) -> "AdaptedCopy":
        """A copy with its own adapters that shares the same frozen weights."""
        copied = object.__new__(AdaptedCopy)
        frozen = (p for p in self.model.parameters() if not p.requires_grad)
        copied.model = _copy_sharing(self.model, frozen, memo)
        return copied


def _copy_sharing(
    model: PreTrainedModel, shared: Iterable[nn.Parameter], memo: dict[int, Any]
) -> PreTrainedModel:
    memo.update({id(tensor): tensor for tensor in (*shared, *shared_tensors(model))})
    for layer in sharded_layers(model):
        memo[id(layer)] = layer if id(layer.weight) in memo else copied_layer(layer)
    return copy.deepcopy(model, memo)


def save_trainable(model: PreTrainedModel, settings: AdapterSettings, folder: Path) -> None:
    """Write the trainable weights; an adapter is written in peft's own format."""
    folder.mkdir(parents=True, exist_ok=True)
    if settings.kind == "full":
        # Tied weights are one tensor in memory and one entry of named_parameters().
        save_whole(dict(model.named_parameters()), folder / FULL_WEIGHTS)
        return
    state = get_peft_model_state_dict(model, adapter_name=ADAPTER, save_embedding_layers=False)
    state = {f"base_model.model.{name}": value for name, value in state.items()}
    save_whole(state, folder / ADAPTER_WEIGHTS)
    config = _lora_config(settings, model).to_dict()
    config["target_modules"] = _adapted_modules(model)
    config["inference_mode"] = True
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, default=_plain, indent=2))


def save_whole(state: Mapping[str, Tensor], file: Path) -> None:
    """Write tensors, gathered from all processes where they are sharded; only the first writes."""
    gathered = {name: whole(value.detach()).contiguous() for name, value in state.items()}
    if ranks().rank == 0:
        save_file(gathered, file, metadata={"format": "pt"})


@torch.no_grad()
def load_trainable(model: PreTrainedModel, settings: AdapterSettings, folder: Path) -> None:
    """Read what ``save_trainable`` wrote into a model prepared by ``add_adapter``.

    Raises:
        ModelError: The file is missing, damaged or of another model or rank.
    """
    file = folder / (FULL_WEIGHTS if settings.kind == "full" else ADAPTER_WEIGHTS)
    try:
        state = load_file(file)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot open checkpoint weights {file.name!r}: {error}") from error
    if settings.kind == "lora":
        layers = {name: name[len("base_model.model.") : -len(".weight")] for name in state}
        state = {f"{layers[name]}.{ADAPTER}.weight": value for name, value in state.items()}
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if parameters.keys() != state.keys():
        raise ModelError(
            f"{file.name!r} does not fit the model: it has {len(state)} tensors, "
            f"the model's trainable part has {len(parameters)}; was it made with another adapter?"
        )
    for name, parameter in parameters.items():
        if parameter.shape != state[name].shape:
            raise ModelError(
                f"{file.name!r}: {name} has shape {tuple(state[name].shape)}, "
                f"the model needs {tuple(parameter.shape)}; was it made with another rank?"
            )
        parameter.copy_(laid_out(state[name], parameter))


def _lora_config(settings: AdapterSettings, model: PreTrainedModel) -> LoraConfig:
    return LoraConfig(
        # GPT-2's layers store their weights transposed
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        r=settings.rank,
        lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=settings.dropout,
        target_modules="all-linear",
        exclude_modules=_left_alone(model) or None,
        task_type="CAUSAL_LM",
    )


def _left_alone(model: PreTrainedModel) -> list[str]:
    """Names of the linear layers that no adapter can or should sit on."""
    return [*_beside_text(model), *_of_other_products(model)]


@torch.no_grad()
def _of_other_products(model: PreTrainedModel) -> list[str]:
    """Names of layers of a class made from a linear one that compute something else, as routers."""
    if is_quantized(model):  # whose layers are of such classes all
        return []
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and type(module).forward is not nn.Linear.forward
        and not _is_product(module)
    ]


def _is_product(layer: nn.Linear) -> bool:
    row = layer.weight.new_ones(1, layer.in_features)
    was_training = layer.training
    layer.eval()  # a router may draw numbers while it trains
    try:
        found: Any = layer(row)
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    finally:
        layer.train(was_training)
    wanted = nn.functional.linear(row, layer.weight, layer.bias)
    is_alike = isinstance(found, Tensor) and found.shape == wanted.shape
    return is_alike and torch.allclose(found, wanted, rtol=1e-2, atol=1e-4)


def _beside_text(model: PreTrainedModel) -> list[str]:
    """Names of the layers through which no text passes, such as those that read images."""
    read = {*text_decoder(model).modules(), output_head(model)}
    return [name for name, m in model.named_modules() if isinstance(m, nn.Linear) and m not in read]


def _adapted_modules(model: PreTrainedModel) -> list[str]:
    """Ends of the names of adapted layers, each as short as no other module's name ends."""
    named = dict(model.named_modules())
    adapted = {name for name, module in named.items() if isinstance(module, LoraLayer)}
    others = named.keys() - adapted - set(_left_alone(model))
    taken = {end for name in others for end in _ends(name)}
    return sorted({next(end for end in _ends(name) if end not in taken) for name in adapted})


def _ends(name: str) -> Iterator[str]:
    """The last part of a dotted name, its last two parts, and so on."""
    parts = name.split(".")
    return (".".join(parts[-n:]) for n in range(1, len(parts) + 1))


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, (set, frozenset)) else str(value)
