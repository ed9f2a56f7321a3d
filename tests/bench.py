"""A tiny policy on the bench, for tests of suites."""

import math
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from acft.benchmarks.base import Bench
from acft.policy import Policy, base_policy
from acft.settings import RunSettings
from acft.threads import Workers
from acft.types import TokenBatch
from tests.fakes import byte_backbone, save_tiny_model

T = TypeVar("T")

PROMPTS = [f"Sentence number {i} begins with {word}" for i, word in enumerate(
    ["sun", "moon", "rain", "wind", "snow", "hail", "fog", "dew", "ice", "sky", "sea", "sand"]
)]  # fmt: skip


class VowelScorer:
    """Calls a text toxic by its share of vowels."""

    name = "vowels"
    version = "1"
    sha256 = "0"

    def score(self, texts: Sequence[str]) -> list[float]:
        return [min(1.0, 2 * sum(c in "aeiou" for c in t) / max(1, len(t))) for t in texts]


class FailingScorer(VowelScorer):
    name = "broken"

    def score(self, texts: Sequence[str]) -> list[float]:
        from acft.errors import ModelError

        raise ModelError("scorer 'broken' failed on purpose")


class UniformJudge:
    """Gives every one of ``n_tokens`` tokens the same probability."""

    device = "cpu"
    workers = Workers()

    def __init__(self, n_tokens: int, context_length: int = 64) -> None:
        self.backbone = byte_backbone(context_length)
        self.context_length = context_length
        self.logprob = -math.log(n_tokens)
        self.batches: list[TokenBatch] = []

    def token_logprobs(self, batch: TokenBatch) -> Tensor:
        self.batches.append(batch)
        return self.logprob * batch.attention_mask[:, 1:].float()


class Power:
    """Draws from the policy's distribution raised to a power."""

    truncates: ClassVar[bool] = False

    def __init__(self, power: float = 1.0) -> None:
        self.power = power

    def start(self, prompts, prompt_ids) -> "Power":
        return self

    def reweight(self, next_logprobs, hidden, token_ids):
        return (self.power * next_logprobs).log_softmax(dim=-1)


def run_settings(model: Path, **changes: Any) -> RunSettings:
    values: dict[str, Any] = {
        "model": {"name": str(model)},
        "device": "cpu",
        "prompts": {"source": "inline:" + "\n".join(PROMPTS)},
        "corpus": [{"source": str(model / "held_out.txt")}],
        "constraint": [{"kind": "length", "maximum": 1000}],
        "evaluation": {"scorers": ["vowels"]},
    }
    return RunSettings.parse(values | changes)


def tiny_model(folder: Path) -> Path:
    """A model folder that also holds a corpus of held-out texts."""
    save_tiny_model(folder)
    lines = [
        f"In year {i} the harvest was good and the river {i * 7} feet deep." for i in range(40)
    ]
    (folder / "held_out.txt").write_text("\n".join(lines))
    return folder


def no_judge() -> Policy:
    from acft.errors import ConfigError

    raise ConfigError("[method] judge is empty")


def bench_of(run: RunSettings, get_judge: Callable[[], Any] = no_judge, **changes: Any) -> Bench:
    values: dict[str, Any] = {"subject": "base"} | changes
    if "policy" not in values:
        values["policy"] = base_policy(run)
    values.setdefault("sampler", values["policy"])
    values.setdefault("get_base", lambda: base_policy(run))
    return Bench(run=run, judges=[VowelScorer()], get_judge=get_judge, **values)


def finish(run: Generator[Any, None, T]) -> tuple[list[Any], T]:
    """Everything a suite yields, and what it returns."""
    yielded: list[Any] = []
    while True:
        try:
            yielded.append(next(run))
        except StopIteration as end:
            return yielded, end.value
