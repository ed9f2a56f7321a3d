"""Prints how many weights of linear layers this process holds for base, policy and a snapshot.

Started in several processes by ``torchrun``: MODEL KIND.
"""

import sys

from torch import Tensor
from torch.distributed.tensor import DTensor

from acft.backbone.sharded import sharded_layers
from acft.distributed import ranks
from acft.policy import base_policy, trainable_policy
from acft.settings import AdapterSettings, ModelSettings, RunSettings


def main(model: str, kind: str) -> None:
    """Print one line."""
    run = RunSettings(model=ModelSettings(name=model, sharding="fsdp"), device="cpu")
    base = base_policy(run)
    policy = trainable_policy(base, AdapterSettings.model_validate({"kind": kind}), 0)
    held: dict[int, Tensor] = {}
    for each in (base, policy, policy.snapshot(base)):
        for layer in sharded_layers(each.backbone.model):
            for parameter in layer.parameters():
                assert isinstance(parameter, DTensor)
                part = parameter.to_local()
                held[part.data_ptr()] = part
    sys.stdout.write(f"{ranks().rank} holds {sum(part.numel() for part in held.values())}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
