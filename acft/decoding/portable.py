"""An oracle in a folder of its own: safetensors and JSON, ready to guide a model elsewhere."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from acft import __version__
from acft.backbone.generation import embedding_sha256, plain_weights_sha256
from acft.backbone.loading import Backbone
from acft.config import Config
from acft.constraints.base import Tables
from acft.decoding.guided import GuidedSettings
from acft.errors import ModelError
from acft.oracle.base import ORACLES, Oracle, OracleContext
from acft.settings import OracleSettings, Positive

WEIGHTS = "oracle.safetensors"
RECORD = "oracle.json"
PREFIX = "oracle."
TOKEN_VERDICTS = "token_verdicts"  # noqa: S105 - no password
FORMAT = 1


class PortableRecord(Config):
    """Content of ``oracle.json``."""

    format: int = FORMAT
    acft: str = __version__
    """Version that wrote it."""
    oracle: OracleSettings
    guidance: GuidedSettings
    horizon: Positive
    """Longest response the oracle has learned from, in tokens."""
    oracle_version: int
    constraint: Tables
    """Tables of the constraint it has learned."""
    embedding_sha256: str
    """Of the model it was built for, rounded to bfloat16."""
    base_sha256: str = ""
    """Of all weights of that model, likewise; empty where the oracle does not run them."""


@dataclass(frozen=True)
class PortableOracle:
    """An oracle with everything that guiding takes, except the model."""

    oracle: Oracle
    record: PortableRecord
    token_verdicts: Float[Tensor, " vocab"] | None
    """What the oracle was built with."""

    def save(self, folder: Path) -> None:
        """Write both files."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {PREFIX + name: value.cpu() for name, value in self.oracle.state_dict().items()}
        if self.token_verdicts is not None:
            state[TOKEN_VERDICTS] = self.token_verdicts
        save_file({name: value.contiguous() for name, value in state.items()}, folder / WEIGHTS)
        text = json.dumps(self.record.model_dump(mode="json"), indent=2)
        (folder / RECORD).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, base: Backbone) -> "PortableOracle":
        """What ``save`` wrote, on the base model's device.

        Raises:
            ModelError: A file is missing or damaged, or ``base`` is not the model it was built for.
        """
        record = PortableRecord.parse(_json(folder / RECORD), RECORD)
        if record.format != FORMAT:
            raise ModelError(
                f"the oracle in {str(folder)!r} has format {record.format}, written by acft "
                f"{record.acft}; this version reads format {FORMAT}"
            )
        if embedding_sha256(base.model) != record.embedding_sha256:
            raise ModelError(
                f"the oracle in {str(folder)!r} was built for a model with another input embedding "
                f"than {base.name!r}; give it the base model of its run"
            )
        if _run_weights(record.oracle, base) != record.base_sha256:
            raise ModelError(
                f"the oracle in {str(folder)!r} runs the base model of its run, and the weights of "
                f"{base.name!r} are others, such as tuned ones; give it that model as base"
            )
        try:
            state = load_file(folder / WEIGHTS)
            token_verdicts = state.pop(TOKEN_VERDICTS, None)
            context = OracleContext(record.oracle, base, record.horizon, token_verdicts, seed=0)
            oracle = ORACLES.get(record.oracle.kind).build(context)
            oracle.load_state_dict({k.removeprefix(PREFIX): v for k, v in state.items()})
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"the oracle in {str(folder)!r} does not open: {error}") from error
        oracle.version = record.oracle_version
        return cls(oracle.eval(), record, token_verdicts)


def portable_oracle(
    oracle: Oracle,
    settings: OracleSettings,
    base: Backbone,
    *,
    guidance: GuidedSettings,
    horizon: int,
    constraint: tuple[Mapping[str, Any], ...],
    token_verdicts: Float[Tensor, " vocab"] | None,
) -> PortableOracle:
    """An oracle made ready to be taken away."""
    record = PortableRecord(
        oracle=settings,
        guidance=guidance,
        horizon=horizon,
        oracle_version=oracle.version,
        constraint=tuple(dict(table) for table in constraint),
        embedding_sha256=embedding_sha256(base.model),
        base_sha256=_run_weights(settings, base),
    )
    return PortableOracle(oracle, record, token_verdicts)


def _run_weights(settings: OracleSettings, base: Backbone) -> str:
    """Hash of the weights that the oracle puts adapters of its own on; empty where it does not."""
    return plain_weights_sha256(base.model) if ORACLES.get(settings.kind).runs_backbone else ""


def _json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {str(file)!r}: {error}") from None
