"""Settings shared by every method; a run combines them with its method's own (runs/spec.py).

Class defaults are the project's starting values; where the paper states one, ``Source:`` says so.
The string under each field is its help text on the command line, in the form and in the docs.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from acft.config import Config, apply_overrides
from acft.events import COUNT_END

Positive = Annotated[int, Field(ge=1, lt=COUNT_END)]
NonNegative = Annotated[int, Field(ge=0, lt=COUNT_END)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, le=1)]
Names = Annotated[tuple[str, ...], Field(strict=False)]


class ModelSettings(Config):
    """The language model to tune."""

    name: str = "smollm2-135m"
    """Local directory, packaged model or hub id, looked for in that order."""
    revision: str = ""
    """Hub revision (commit, tag or branch); empty takes the newest. A run records the
    SHA-256 of the weights that it got."""
    chat_template: bool = False
    """Wrap prompts in the tokenizer's chat template instead of continuing raw text."""
    quantization: Literal["none", "nf4", "int8"] = "none"
    """Store the frozen weights of all linear layers but the output head in 4 or 8 bits, by
    bitsandbytes; adapters keep their precision, and base policy and snapshots share the weights."""
    sharding: Literal["none", "fsdp"] = "none"
    """Where several processes train, each holds a part of every linear layer but the output head,
    by torch's ``fully_shard``; a process that is alone holds all, whatever this says."""

    @model_validator(mode="after")
    def _few_bits_stay_whole(self) -> "ModelSettings":
        if self.sharding != "none" and self.quantization != "none":
            raise ValueError(
                f"quantization {self.quantization!r} stores weights in a form that sharding "
                f"{self.sharding!r} cannot divide; set one of the two to 'none'"
            )
        return self


class AdapterSettings(Config):
    """Which weights are trained."""

    kind: Literal["lora", "full"] = "lora"
    """Low-rank adapters on all linear layers, or every weight."""
    rank: Positive = 16
    """Rank of the adapters."""
    alpha: PositiveFloat = 32.0
    """Scale of the adapters; the update is multiplied by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on the adapters' input, the only dropout there is: the model's own is off."""


class CorpusSettings(Config):
    """One source of training texts."""

    source: str
    """A registered corpus (see ``acft list``), a local file, or ``hub:NAME`` through datasets."""
    domain: Literal["attribute", "general"] = "general"
    """``attribute`` for texts the constraint is about; adaptive methods regularise only those."""
    weight: PositiveFloat = 1.0
    """Share of the mixture, relative to the other corpora."""
    max_documents: NonNegative = 0
    """Use at most this many documents (seeded choice), of which three fifths train and the rest is
    held out; 0 = all. Of ``base_rollouts`` all of them train, and 0 = 512."""
    prompt_field: str = ""
    """Column that holds the prompt; empty: the first 8 to 24 tokens of the text are the prompt."""
    text_field: str = "text"
    """Column that holds the text (or the response, when there is a prompt column)."""
    loss: Literal["all", "response"] = "all"
    """Tokens that carry the cross-entropy: all, or the response alone, the prompt being given."""


class PromptSettings(Config):
    """Prompts that rollouts continue."""

    source: str = "realtoxicityprompts"
    """A registered prompt set (see ``acft list``), a local file, or ``hub:NAME``."""
    text_field: str = "text"
    """Column that holds the prompt."""
    limit: NonNegative = 0
    """Use at most this many prompts of each split (seeded choice); 0 = all."""


class SamplingSettings(Config):
    """How a response is drawn."""

    horizon: Positive = 20
    """Longest response, in tokens. Source: RealToxicityPrompts protocol, 20 tokens."""
    temperature: PositiveFloat = 1.0
    """Logits are divided by it. A run learns from its policy as it is, so this must be 1; see
    ``temperature`` of ``[oracle]``."""
    top_p: OpenFraction = 1.0
    """Nucleus size; 1 samples from the whole vocabulary, as a run must; see ``top_p`` of
    ``[evaluation]``."""
    batch_size: Positive = 64
    """Responses drawn at once; changes speed, never the drawn random numbers."""

    def at(self, temperature: float = 1.0, top_p: float = 1.0) -> "SamplingSettings":
        """The same lengths and batches; unless given otherwise, drawn from the policy as it is."""
        return self.model_copy(update={"temperature": temperature, "top_p": top_p})


class EngineSettings(Config):
    """What draws responses: this process, or a server made for it."""

    kind: str = "local"
    """A registered engine (see ``acft list``); others than ``local``, ``compiled`` and ``bfloat16``
    are servers."""
    address: str = ""
    """Where the server is, such as http://127.0.0.1:8000; empty: what ACFT_ENGINE_ADDRESS says.
    Taken from files and the command line, never from a browser."""
    folder: str = ""
    """Where new weights are left for the server, on a disk that it sees under the same path; empty:
    what ACFT_ENGINE_FOLDER says, else the cache. Never taken from a browser either."""
    model: str = ""
    """What the server calls the base policy; empty: ``[model] name``."""
    requests: Positive = 64
    """Requests at once; some servers take one only."""
    timeout_seconds: PositiveFloat = 300.0
    """Patience with one request."""
    retries: NonNegative = 4
    """Further tries of a failed request, each after twice the pause of the one before."""
    reload_seconds: NonNegativeFloat = 0.0
    """Patience until a server that cannot load weights by itself has been started with new ones."""
    gap_max: PositiveFloat = 0.1
    """Nats a token that log-probabilities of server and policy may differ on average."""


class OracleSettings(Config):
    """The auxiliary token-level model R and its training."""

    kind: str = "nado_recurrent"
    """A registered oracle (see ``acft list``)."""
    rollouts_per_round: Positive = 512
    """Responses drawn from the policy in each round."""
    width: Positive = 64
    """Hidden width of the oracle's own layers."""
    layers: Positive = 1
    """Number of the oracle's own layers."""
    rank: Positive = 16
    """Rank of the adapters of kinds that run a copy of the base policy."""
    lr: PositiveFloat = 1e-3
    """Learning rate of the oracle's AdamW."""
    decay: Literal["constant", "cosine"] = "constant"
    """Learning rate over ``max_epochs``; with ``cosine`` give ``patience`` no less than that."""
    weight_decay: NonNegativeFloat = 0.1
    """Weight decay of the oracle's AdamW."""
    batch_size: Positive = 64
    """Rollouts in one oracle step."""
    max_epochs: Positive = 30
    """Passes over the rollouts; early stopping usually ends sooner."""
    patience: Positive = 4
    """Epochs without a better validation loss before training stops."""
    labels: Literal["hard", "soft"] = "hard"
    """Train on the constraint's verdict, as the theory has it, or on its graded value."""
    balance: Literal["none", "balanced"] = "none"
    """Draw satisfied and violating rollouts equally often, and undo it by importance weights."""
    temperature: PositiveFloat = 1.0
    """Of the rollouts to learn from; other than 1, each carries its importance weight, and the
    farther from 1 and the longer, the fewer count: 256 of SmolLM2 at 1.1 weigh like 94."""
    validation_rollouts: Positive = 188
    """Responses to validation prompts for early stopping and calibration."""
    consistency_weight: NonNegativeFloat = 0.0
    """Weight of the forward-consistency term. Source: arXiv:2205.14219."""
    replay_rounds: NonNegative = 0
    """Rollouts of this many earlier rounds are reused with importance weights; reading them again
    costs a CPU as much as drawing new ones."""
    log_r_min: Annotated[float, Field(lt=0)] = -13.815510557964274
    """Floor of log R in nats (ln 1e-6); keeps every guided probability finite."""
    strength: Literal["auto"] | PositiveFloat = "auto"
    """Exponent of R in the guided policy; ``auto`` finds the smallest that reaches the target."""
    satisfaction_target: OpenFraction = 0.98
    """Satisfaction that ``strength = "auto"`` aims at on validation prompts; at most the method's
    delta."""
    rare: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Tokens that the policy gives less probability than this are guided away from, never towards,
    since the oracle has seen too few of them; 0 is the closed form."""
    strength_max: PositiveFloat = 8.0
    """Largest strength that ``auto`` may choose."""


class ScheduleSettings(Config):
    """When policy and oracle are updated."""

    kind: Literal["sequential", "parallel"] = "sequential"
    """One after the other, or both at once from the state of the round before."""
    rounds: Positive = 3
    """Outer iterations."""
    threads: NonNegative = 0
    """CPU threads of the run, which jobs that run at once share; 0 = every core it may use."""
    executor: Literal["threads", "ray"] = "threads"
    """Where the oracle's job runs when both run at once: a thread, or a Ray actor on another
    device or machine (address from RAY_ADDRESS, else a cluster of this machine)."""

    @model_validator(mode="after")
    def _ray_has_jobs_at_once(self) -> "ScheduleSettings":
        if self.executor == "ray" and self.kind == "sequential":
            raise ValueError(
                "executor 'ray' does the oracle's job beside the policy's, but kind is "
                "'sequential'; set kind to 'parallel', or executor to 'threads'"
            )
        return self


class OptimizerSettings(Config):
    """Training of the policy."""

    lr: PositiveFloat = 5e-4
    """Peak learning rate of AdamW."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay of AdamW."""
    warmup_steps: NonNegative = 5
    """Steps over which the learning rate rises linearly from zero."""
    decay: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up, over the whole run."""
    steps_per_round: Positive = 30
    """Optimiser steps in each round."""
    batch_size: Positive = 16
    """Documents in one optimiser step."""
    micro_batch_size: Positive = 8
    """Documents in one forward pass; gradients of a step are accumulated."""
    checkpointing: bool = False
    """Keep each layer's input instead of all activations, and compute these again in the backward
    pass: a third more time, a fraction of the memory, the same gradients."""
    compile: bool = False
    """Run the model's layers as compiled code: minutes of compilation in the first round, faster
    steps from then on, the same numbers up to rounding. Needs a C++ compiler."""
    max_tokens: Positive = 128
    """Longest document, in tokens; longer ones are cut."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients are scaled down to this norm."""

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> "OptimizerSettings":
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size "
                f"{self.micro_batch_size}"
            )
        return self


class LimitSettings(Config):
    """When a run stops by itself."""

    kl_max: PositiveFloat = 50.0
    """A step whose mean KL per token, in the loss's direction, exceeds this many nats stops the
    run."""
    kl_base_budget: NonNegativeFloat = 0.0
    """Stop after a round whose KL(policy || base) exceeds this, in nats a token; 0 = no budget."""


class EvaluationSettings(Config):
    """What is measured on held-out prompts and texts before, during and after a run."""

    scorers: Names = ("jigsaw_tcc", "profanity_svm")
    """Scorers that judge; choose others than the one that trains."""
    validation_prompts: Positive = 24
    """Validation prompts after each round (best checkpoint, dual ascent)."""
    validation_continuations: Positive = 4
    """Continuations of each validation prompt."""
    test_prompts: NonNegative = 40
    """Test prompts that base and tuned policy answer in the end; 0 = no final evaluation."""
    continuations: Positive = 10
    """Continuations of each test prompt."""
    top_p: OpenFraction = 0.9
    """Nucleus of the evaluation's sampling. Source: RealToxicityPrompts protocol, 0.9."""
    perplexity_documents: NonNegative = 32
    """Held-out documents of each general corpus for perplexity; 0 = none."""
    tolerance_utility: NonNegativeFloat = 0.03
    """Largest relative rise of validation perplexity a best checkpoint may have."""


class RunSettings(Config):
    """Everything a run needs that does not belong to one constraint or method."""

    title: str = ""
    """Free text shown in lists."""
    notes: str = ""
    """Free text kept with the run."""
    seed: Seed = 0
    """Every random choice of the run derives from it."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """``auto`` takes a CUDA device if there is one; a named device that is missing is an error."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto`` is bfloat16 on GPUs made for it, else float32. Small updates round away where an
    adapter is merged into bfloat16 to draw and guide: with lr below 1e-4 and few steps take
    float32."""
    model: ModelSettings = ModelSettings()
    adapter: AdapterSettings = AdapterSettings()
    corpus: Annotated[tuple[CorpusSettings, ...], Field(strict=False)] = (
        CorpusSettings(source="base_rollouts", domain="attribute"),
        CorpusSettings(source="sotu", domain="general"),
    )
    prompts: PromptSettings = PromptSettings()
    sampling: SamplingSettings = SamplingSettings()
    engine: EngineSettings = EngineSettings()
    oracle: OracleSettings = OracleSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    limits: LimitSettings = LimitSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    constraint: Annotated[tuple[dict[str, Any], ...], Field(strict=False)] = (
        {"kind": "scorer", "scorer": "jigsaw_toxblock"},
    )
    """Constraints that must all hold; each a table with ``kind`` and that constraint's settings."""
    method: dict[str, Any] = Field(default_factory=lambda: {"name": "acft"})
    """Table with ``name`` of a registered method and that method's settings."""


UNMEASURED = ("title", "notes")
"""Settings that change no number."""
EVALUATE = "evaluate"
"""The method that measures policies and trains none."""
PARTLY_WRITTEN = ("corpus", "constraint", "method")
"""Settings whose default is filled in before a part of them is changed."""


def as_used(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of what a run recorded when it started; empty where it recorded none."""
    settings, method = resolved.get("settings"), resolved.get("method")
    if not isinstance(settings, dict):
        return {}
    return {**settings, "method": method} if isinstance(method, dict) else settings


def as_asked(written: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Settings as written with the overrides of a launch on top, not yet checked.

    Raises:
        ConfigError: An override cannot be applied.
    """
    touched = {override.partition(".")[0] for override in overrides}
    missing = {name for name in PARTLY_WRITTEN if name in touched and name not in written}
    defaults = RunSettings().model_dump(mode="json", include=missing)
    return apply_overrides({**written, **defaults}, list(overrides))
