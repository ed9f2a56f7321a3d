"""How well the oracle of an experiment predicts and guides, on prompts it never saw.

    python -m benchmarks.oracle                          every figure; an hour or two on one core
    python -m benchmarks.oracle --rollouts 1536 --each 4 --decoded 2      a rough first look

Responses of the base policy to the test prompts are judged by the scorers that did not train.
Guidance is measured twice: by importance weights on those responses, and on text decoded anew.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from acft.backbone.forward import logits
from acft.decoding.base import DecodedPolicy
from acft.events import Progress, Scalars
from acft.oracle.base import Oracle
from acft.oracle.calibration import calibrate
from acft.oracle.strength import GuidedEstimate, guided_log_weights, smallest_strength
from acft.oracle.training import OracleData, predictions
from acft.seeding import derive_seed
from acft.settings import RunSettings, SamplingSettings
from acft.statistics import (
    Interval,
    auc,
    bootstrap,
    group_rows,
)
from acft.totals import Totals, ratio_bootstrap, ratio_change
from acft.training.oracle_job import (
    ScoredSamples,
    build_oracle,
    guide_decoder,
    oracle_data,
    oracle_job,
    with_verdicts,
)
from acft.training.outputs import TrainContext
from acft.training.world import World, load_world
from acft.types import Rollout

T = TypeVar("T")
EXPERIMENT = Path(__file__).parent.parent / "experiments" / "detox_smollm2.toml"
STRENGTHS = (1.0, 1.5, 2.0, 3.0, 4.0)


def drained(generator: Generator[Any, None, T]) -> T:
    """What a generator returns in the end; its progress goes to the terminal."""
    while True:
        try:
            output = next(generator)
        except StopIteration as end:
            return end.value
        if isinstance(output, Progress) and sys.stderr.isatty():
            print(f"\r{output.phase} {output.done}/{output.total}      ", end="", file=sys.stderr)


@dataclass(frozen=True)
class HeldOut:
    """Responses of the base policy to the test prompts."""

    samples: ScoredSamples
    toxic: dict[str, np.ndarray]
    """By judge: whether each response scores 0.5 or more."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print calibration, estimated guidance and decoded guidance as one JSON object a line."""
    options = _options(arguments)
    world = drained(load_world(TrainContext(_settings(options))))
    tried: list[GuidedEstimate] = []
    job = oracle_job(world, build_oracle(world), world.base, 1, [])
    oracle = drained(_watched(job, tried)).guide.oracle
    held_out = draw_held_out(world, options.each)
    data = oracle_data(held_out.samples)
    calibration = calibrate(oracle, data, 1)
    _print(
        "calibration",
        n=calibration.n_rollouts,
        prompts=calibration.n_prompts,
        intervals=auc_intervals(oracle, data, options.resamples),
        **calibration.metrics,
    )
    automatic = {target: smallest_strength(tried, target) for target in options.targets}
    _print("automatic strength", by_target=automatic)
    _print("optimum", **_changes(held_out, optimal_weights(data), options.resamples))
    for row in estimated(world, oracle, held_out, options.resamples):
        _print("estimated", **row)
    for row in decoded(world, oracle, sorted({1.0, *automatic.values()}), options.decoded):
        _print("decoded", **row)


def _watched(job: Generator[Any, None, T], tried: list[GuidedEstimate]) -> Generator[Any, None, T]:
    """The same job; what it estimates of each strength on validation prompts joins ``tried``."""
    while True:
        try:
            output = next(job)
        except StopIteration as end:
            return end.value
        if isinstance(output, Scalars) and "oracle/tried_strength" in output.values:
            names = ("tried_strength", "guided_satisfaction", "guided_effective_share")
            tried.append(GuidedEstimate(*(output.values[f"oracle/{name}"] for name in names)))
        yield output


def draw_held_out(world: World, each: int) -> HeldOut:
    """``each`` responses to every test prompt, at temperature 1."""
    sampling = SamplingSettings(horizon=world.horizon, batch_size=128)
    seed = derive_seed(world.run.seed, "benchmark", "held out")
    drawn = world.base.sample(world.prompts["test"], each, sampling, seed, keep_hidden=True)
    assert drawn.windows is not None
    satisfaction, windows = with_verdicts(world, drawn.rollouts, drawn.windows)
    samples = ScoredSamples(drawn.rollouts, satisfaction, windows)
    return HeldOut(samples, toxic(world, drawn.rollouts))


def toxic(world: World, rollouts: Sequence[Rollout]) -> dict[str, np.ndarray]:
    """By judge, whether each response scores 0.5 or more."""
    texts = [rollout.response_text for rollout in rollouts]
    return {judge.name: np.asarray(judge.score(texts)) >= 0.5 for judge in world.judges}


def auc_intervals(
    oracle: Oracle, data: OracleData, resamples: int
) -> dict[str, list[float | None]]:
    """AUC and its 95 % interval over prompts, at all positions and in the last third."""
    log_r, _ = predictions(oracle, data)
    mask = data.window.mask[:, 1:].numpy()
    late = mask.copy()
    late[:, : mask.shape[1] - mask.shape[1] // 3] = False
    verdict = np.broadcast_to(data.verdict.numpy()[:, None], mask.shape)

    def interval(where: np.ndarray) -> list[float | None]:
        def among(rows: np.ndarray) -> float | None:
            here = where[rows]
            return auc(log_r.numpy()[rows][here], verdict[rows][here])

        return _interval(bootstrap(data.prompts, among, resamples))

    return {"auc": interval(mask), "auc_last_third": interval(late)}


def optimal_weights(data: OracleData) -> np.ndarray:
    """q*(response) / p(response) with R of a prompt as its responses show it.

    Source: the projection for delta = 1, eq. (4): C(x, y) / R(x).
    """
    verdict = data.verdict.numpy()
    weights = np.zeros(len(data))
    for rows in group_rows(data.prompts):
        weights[rows] = verdict[rows] / max(verdict[rows].mean(), 1 / len(rows))
    return weights


def estimated(
    world: World, oracle: Oracle, held_out: HeldOut, resamples: int
) -> list[dict[str, Any]]:
    """What guidance would change at each strength: toxic shares, and nats a token under the base.

    Both come from importance weights on the same responses, so the chance that parts two samples
    is not in them.
    """
    model = world.base.backbone.model

    def next_logprobs(hidden: Float[Tensor, "position width"]) -> Float[Tensor, "position vocab"]:
        return logits(model, hidden.to(model.dtype)).log_softmax(dim=-1)

    data = oracle_data(held_out.samples)
    columns = guided_log_weights(oracle, data, next_logprobs, STRENGTHS, rare=world.run.oracle.rare)
    rows: list[dict[str, Any]] = []
    for strength, column in zip(STRENGTHS, columns.double().numpy(), strict=True):
        weights = np.exp(column - column.max())
        share = weights.sum() ** 2 / np.square(weights).sum() / len(data)
        row: dict[str, Any] = {"strength": strength, "effective_share": round(float(share), 3)}
        rows.append(row | _changes(held_out, weights, resamples))
    return rows


def _changes(held_out: HeldOut, weights: np.ndarray, resamples: int) -> dict[str, Any]:
    """What weights of the responses change: toxic shares, and nats a token under the base."""
    rollouts = held_out.samples.rollouts
    prompts = [rollout.prompt_id for rollout in rollouts]
    even = np.ones(len(rollouts))
    found: dict[str, Any] = {
        name: _weighted_change(prompts, (flags, even), weights, resamples, is_relative=True)
        for name, flags in held_out.toxic.items()
    }
    found["nats_beyond_base"] = _weighted_change(
        prompts, _nats(rollouts), weights, resamples, is_relative=False
    )
    return found


def _weighted_change(
    prompts: Sequence[str],
    ratio: tuple[np.ndarray, np.ndarray],
    weights: np.ndarray,
    resamples: int,
    *,
    is_relative: bool,
) -> list[float | None]:
    """How weights change a ratio of sums, with the 95 % interval over prompts."""
    above, below = ratio

    def change(rows: np.ndarray) -> float | None:
        before = above[rows].sum() / below[rows].sum()
        after = (weights * above)[rows].sum() / (weights * below)[rows].sum()
        if not is_relative:
            return float(after - before)
        return float(after / before - 1) if before else None

    return _interval(bootstrap(prompts, change, resamples))


def decoded(
    world: World, oracle: Oracle, strengths: Sequence[float], each: int
) -> list[dict[str, Any]]:
    """Toxic share and log-likelihood under the base of text decoded anew, and their changes."""
    prompts = world.prompts["test"]
    sampling = SamplingSettings(horizon=world.horizon, batch_size=128)
    seed = derive_seed(world.run.seed, "benchmark", "decoded")
    groups = np.repeat(np.arange(len(prompts)), each)
    plain = world.base.sample(prompts, each, sampling, seed).rollouts
    before, (totals, lengths) = toxic(world, plain), _nats(plain)
    nats = round(float(totals.sum() / lengths.sum()), 4)
    rows: list[dict[str, Any]] = [{"strength": 0.0, "n": len(plain), "nats": nats}]
    rows[0] |= {name: round(float(flags.mean()), 4) for name, flags in before.items()}
    names = groups.astype(str).tolist()
    for strength in strengths:
        decoder = guide_decoder(world, world.base, oracle, strength)
        answers = DecodedPolicy(world.base, decoder).sample(prompts, each, sampling, seed).rollouts
        row: dict[str, Any] = {"strength": strength, "n": len(answers)}
        row["nats_beyond_base"] = _nats_beyond(groups, (totals, lengths), _nats(answers))
        for name, flags in toxic(world, answers).items():
            sides = [Totals.of_rows(names, toxic) for toxic in (before[name], flags)]
            change = ratio_bootstrap(sides, ratio_change, are_shares=True)
            row[name] = {"share": round(float(flags.mean()), 4), "change": _interval(change)}
        rows.append(row)
    return rows


def _nats_beyond(
    groups: np.ndarray,
    before: tuple[np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray],
) -> list[float | None]:
    """Difference of mean log-likelihoods of a token, with the 95 % interval over prompts."""

    def difference(rows: np.ndarray) -> float:
        means = [totals[rows].sum() / lengths[rows].sum() for totals, lengths in (before, after)]
        return float(means[1] - means[0])

    return _interval(bootstrap(groups.tolist(), difference))


def _interval(interval: Interval) -> list[float | None]:
    return [
        None if x is None else round(x, 4) for x in (interval.value, interval.low, interval.high)
    ]


def _nats(rollouts: Sequence[Rollout]) -> tuple[np.ndarray, np.ndarray]:
    """Log-likelihood of each response under the base, and its number of tokens."""
    totals = np.array([sum(rollout.response_logprobs) for rollout in rollouts])
    return totals, np.array([len(rollout.response_logprobs) for rollout in rollouts])


def _settings(options: argparse.Namespace) -> RunSettings:
    values = tomllib.loads(options.experiment.read_text())
    sizes = {"rollouts_per_round": options.rollouts, "validation_rollouts": options.validation}
    values["oracle"] |= {"strength": "auto", "rare": options.rare, **sizes}
    values["schedule"] |= {"threads": options.threads}
    if options.threshold is not None:
        values["constraint"][0]["threshold"] = options.threshold
    return RunSettings.parse(values)


def _print(kind: str, **values: Any) -> None:
    print(json.dumps({"kind": kind, **values}), flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How well an oracle predicts and guides.")
    parser.add_argument("--experiment", type=Path, default=EXPERIMENT, help="its settings")
    parser.add_argument("--threshold", type=float, help="of the scorer, not the settings' own")
    parser.add_argument("--rare", type=float, default=0.001, help="[oracle] rare; 0 = closed form")
    parser.add_argument("--rollouts", type=int, default=12_000, help="to train the oracle on")
    parser.add_argument("--validation", type=int, default=1_880, help="to stop and choose by")
    parser.add_argument("--each", type=int, default=34, help="held-out responses a test prompt")
    parser.add_argument("--decoded", type=int, default=10, help="decoded responses a test prompt")
    parser.add_argument("--resamples", type=int, default=200, help="bootstrap samples")
    parser.add_argument("--threads", type=int, default=0, help="processor cores; 0 = all")
    parser.add_argument(
        "--targets", type=float, nargs="+", default=[0.98, 0.995], help="of automatic strength"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
