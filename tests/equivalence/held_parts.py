"""Prints how many weights of linear layers this process holds for base, policy and a snapshot.

Started in several processes: MODEL KIND ..., kinds of adapters.
"""

import sys

from torch import Tensor
from torch.distributed.tensor import DTensor

from acft.backbone.sharded import sharded_layers
from acft.distributed import leave
from acft.policy import base_policy, trainable_policy
from acft.settings import AdapterSettings, ModelSettings, RunSettings


def main(model: str, *kinds: str) -> None:
    """Print one line for each kind."""
    for kind in kinds:
        sys.stdout.write(f"{kind}: holds {held(model, kind)}\n")
    leave()


def held(model: str, kind: str) -> int:
    """Weights of linear layers in this process."""
    run = RunSettings(model=ModelSettings(name=model, sharding="fsdp"), device="cpu")
    base = base_policy(run)
    policy = trainable_policy(base, AdapterSettings.model_validate({"kind": kind}), 0)
    parts: dict[int, Tensor] = {}
    for each in (base, policy, policy.snapshot(base)):
        for layer in sharded_layers(each.backbone.model):
            for parameter in layer.parameters():
                assert isinstance(parameter, DTensor)
                part = parameter.to_local()
                parts[part.data_ptr()] = part
    return sum(part.numel() for part in parts.values())


if __name__ == "__main__":
    main(*sys.argv[1:])
