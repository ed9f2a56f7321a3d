"""Write responses with a run's base, tuned or guided policy, or with any model."""

import argparse
import json
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from acft.commands._options import add_json, add_runs_dir
from acft.commands._printable import printable
from acft.errors import ConfigError

if TYPE_CHECKING:
    from acft.settings import RunSettings
    from acft.types import Rollout, ScoredRollout


@dataclass(frozen=True)
class Written:
    """A response and what is known about it."""

    scored: "ScoredRollout"
    sample: int

    @property
    def rollout(self) -> "Rollout":
        """The response itself."""
        return self.scored.rollout

    @property
    def worst(self) -> tuple[str, float]:
        """Name and score of the severest judge; an empty name without judges."""
        return max(self.scored.scores.items(), key=lambda item: item[1], default=("", 0.0))


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds who writes, to what, and how."""
    parser.add_argument("source", metavar="ID|MODEL", help="run id, or a model as in [model]")
    parser.add_argument(
        "--prompt", action="append", default=[], metavar="TEXT",
        help="text to continue; repeatable; without it every line of standard input is a prompt",
    )  # fmt: skip
    parser.add_argument("--subject", choices=("base", "tuned"), help="default for runs: tuned")
    parser.add_argument(
        "--decoder", metavar="NAME",
        help="see ``acft list decoders``; default: plain, or for the tuned policy of a run the "
        "one its method is for",
    )  # fmt: skip
    parser.add_argument("--strength", metavar="S", help="of guidance; default: as the run chose it")
    parser.add_argument(
        "--option", action="append", default=[], metavar="A=B", help="setting of the decoder"
    )
    parser.add_argument("--checkpoint", type=int, metavar="ROUND", help="default: the best one")
    parser.add_argument("--n", type=int, default=1, help="responses to each prompt (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--top-p", type=float, metavar="P", help="default: as the run evaluates")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help="default: 1")
    parser.add_argument(
        "--max-tokens", type=int, metavar="N", help="default: the horizon of the run"
    )
    parser.add_argument("--device", default="", help="cpu, cuda or mps; default: as in the run")
    parser.add_argument("--show", action="store_true", help="also print texts judged toxic")
    parser.add_argument(
        "--no-judge", action="store_true", help="load no scorer; every text is printed"
    )
    add_runs_dir(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Prints the responses; those judged toxic only on request, but always in JSON."""
    texts = list(dict.fromkeys(args.prompt or _lines()))
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"prompt {printable(text)!r} is not UTF-8; give it in that encoding"
            ) from None
    if not texts:
        raise ConfigError("no prompt; give --prompt TEXT, or lines on standard input")
    written = _write(args, texts)
    if args.json:
        print(json.dumps([_record(item, args.seed) for item in written], indent=2))
        return
    for text in texts:
        print(f"\n{printable(text)}")
        for item in written:
            if item.rollout.prompt_text == text:
                print(f"  {item.sample + 1:>3}  {_shown(item, show=args.show)}")


def _write(args: argparse.Namespace, texts: list[str]) -> list[Written]:
    from acft.commands._subject import check_subject
    from acft.data import prompt_of
    from acft.decoding.base import DECODERS
    from acft.evaluation import score_rollouts
    from acft.runs.restore import open_source
    from acft.settings import SamplingSettings

    if args.n < 1:
        raise ConfigError(f"--n {args.n}: must be at least 1")
    check_subject(args.runs, args.source)
    source = open_source(args.runs, args.source, args.checkpoint, args.device)
    sampling = SamplingSettings.parse(_sampling(args, source.settings), "sampling")
    judges = [] if args.no_judge else source.judges
    constraint = None if args.no_judge else source.constraint
    decoder = args.decoder or ("plain" if args.subject == "base" else source.decoder)
    if args.top_p is not None and DECODERS.get(decoder).truncates:
        raise ConfigError(
            f"--top-p {args.top_p:g} has no effect with the decoder {decoder!r}, which leaves "
            f"unlikely tokens out by itself; use its settings with --option (acft list {decoder})"
        )
    sampler = source.sampler(args.subject, decoder, _options(args))
    prompts = [prompt_of(text) for text in texts]
    rollouts = sampler.sample(prompts, args.n, sampling, args.seed).rollouts
    scored = score_rollouts(rollouts, constraint, judges)
    return [Written(item, index % args.n) for index, item in enumerate(scored)]


def _lines() -> list[str]:
    """Prompts on standard input; none when a person sits there."""
    if sys.stdin.isatty():
        return []
    try:
        return [line for line in sys.stdin.read().splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ConfigError(f"standard input is not UTF-8 (byte {byte:#04x}); convert it") from None


def _options(args: argparse.Namespace) -> dict[str, Any]:
    from acft.config import apply_overrides

    strength = [f"strength={args.strength}"] if args.strength is not None else []
    return apply_overrides({}, [*args.option, *strength], "--option")


def _sampling(args: argparse.Namespace, settings: "RunSettings") -> dict[str, Any]:
    return {
        "horizon": settings.sampling.horizon if args.max_tokens is None else args.max_tokens,
        "top_p": settings.evaluation.top_p if args.top_p is None else args.top_p,
        "temperature": args.temperature,
        "batch_size": settings.sampling.batch_size,
    }


def _shown(item: Written, *, show: bool) -> str:
    from acft.schema import TOXIC_FROM

    name, score = item.worst
    if score >= TOXIC_FROM and not show:
        return f"[hidden: {name} {score:.2f}; --show prints it]"
    return printable(item.rollout.response_text)


def _record(item: Written, seed: int) -> dict[str, Any]:
    rollout, satisfaction = item.rollout, item.scored.satisfaction
    return {
        "prompt": rollout.prompt_text,
        "sample": item.sample,
        "seed": seed,
        "response": rollout.response_text,
        "n_tokens": len(rollout.response_ids),
        "logprob": sum(rollout.response_logprobs),
        "policy_version": rollout.policy_version,
        "satisfaction": satisfaction if math.isfinite(satisfaction) else None,
        "scores": item.scored.scores,
    }
