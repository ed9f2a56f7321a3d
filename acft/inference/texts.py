"""Operations on texts: who answers, what each token is worth to whom, and fresh responses."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from acft.backbone.cached_decoder import CachedDecoder
from acft.backbone.forward import logits
from acft.data import pad_token
from acft.decoding.base import DecoderContext
from acft.decoding.rad import RadSettings, rad_decoder
from acft.errors import DataError
from acft.inference.limits import bounded
from acft.inference.opened import OpenedRun, open_run
from acft.inference.server import Session
from acft.inference.token_rows import token_rows
from acft.inference.untrained import RAD, kept, n_candidates
from acft.policy import Policy
from acft.prompt_tokens import (
    encode_prompt,
    encoded_pair,
    full_prompt,
    response_text,
    response_texts,
)
from acft.reweighting import Decoder, begin
from acft.sampling import nucleus
from acft.token_choice import choose, drawing_device, uniforms
from acft.token_text import TokenTexts
from acft.training.controlled import with_control
from acft.types import Prompt, TokenBatch
from acft.windows import left_padded

MAX_TOKENS = 512
MAX_SAMPLES = 8
MAX_HORIZON = 200
PROBE = "The weather today is"
PROBE_TOLERANCE = 1e-6


def identify(session: Session, runs: str, run_id: str, version: int) -> dict[str, Any]:
    """Which weights answer, and a test that base and tuned are who they claim to be.

    The probe's distributions must differ between base and tuned, and switching an adapter off must
    give the base back exactly.
    """
    opened = open_run(session, runs, run_id)
    opened.policy(version)
    # Behind a control text even the base's own weights would answer otherwise than the base.
    tuned = opened.tuned if version else opened.base
    base_lp, tuned_lp = (_probe(policy) for policy in (opened.base, tuned))
    gap = float((base_lp - tuned_lp).abs().max())
    restored = _switched_off(opened)
    backbone = opened.base.backbone
    return {
        "base": {"name": backbone.name, "sha256": backbone.sha256, "source": backbone.source},
        "tuned": {"version": version, "sha256": opened.tuned_sha256 if version else ""},
        "dtype": str(next(backbone.model.parameters()).dtype).removeprefix("torch."),
        "device": str(backbone.model.device),
        "differs": gap,
        "restored": restored,
        "is_proved": (gap > PROBE_TOLERANCE or version == 0)
        and (restored is None or restored <= PROBE_TOLERANCE),
    }


def score(
    session: Session,
    runs: str,
    run_id: str,
    version: int,
    prompt: str = "",
    response: str = "",
    prompt_ids: Sequence[int] | None = None,
    response_ids: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Values of every token of a text under base, guided and tuned policy, by teacher forcing.

    Ids, where given, are read exactly so; else the text is tokenised.

    Raises:
        DataError: The text is empty or too long.
    """
    opened = open_run(session, runs, run_id)
    text = _text_ids(opened, prompt, response, prompt_ids, response_ids)
    return _valued(opened, version, text)


def branch(
    session: Session,
    runs: str,
    run_id: str,
    version: int,
    prompt: str,
    prompt_ids: Sequence[int],
    response_ids: Sequence[int],
    place: int,
    token: int,
) -> dict[str, Any]:
    """What follows, and what it is worth, when another token stands at a place of the response.

    The policy of the version continues with its likeliest tokens up to the original length.

    Raises:
        DataError: The place is not inside the response.
    """
    if not 0 <= place < len(response_ids):
        raise DataError("only tokens of the response can be exchanged, not those of the prompt")
    opened = open_run(session, runs, run_id)
    text = _text_ids(opened, prompt, "", prompt_ids, [*response_ids[:place], token])
    wanted = text.start + len(response_ids)
    longer = replace(text, ids=_continued(opened.policy(version), text.ids, wanted))
    return _valued(opened, version, longer)


def generate(
    session: Session,
    runs: str,
    run_id: str,
    prompt: str,
    sides: Sequence[dict[str, Any]],
    samples: int = 1,
    seed: int = 0,
    horizon: int = 20,
    temperature: float = 1.0,
    top_p: float = 0.9,
) -> Generator[dict[str, Any], None, dict[str, Any]]:
    """Texts of each side as they grow, with the weights that wrote them.

    The sides share their random numbers.

    Args:
        session: The process's memory.
        runs: Runs directory.
        run_id: The run whose policies answer.
        prompt: Text to continue.
        sides: ``{"subject": base | policy | guided | best_of_n | rad, "version": k}`` each; a
            guided one also says ``"weights": version`` of the policy that the oracle of version k
            guides, a best of n its ``"candidates"``, of which all are drawn before one is shown.
        samples: Responses of each side.
        seed: Of the random numbers.
        horizon: Longest response in tokens.
        temperature: Logits are divided by it.
        top_p: Nucleus of all but a decoder that leaves unlikely tokens out by itself.

    Raises:
        DataError: The prompt is empty or too long, or too much is asked for.
    """
    if not 1 <= samples <= MAX_SAMPLES or not 1 <= horizon <= MAX_HORIZON:
        raise DataError(
            f"{samples} samples of {horizon} tokens; at most {MAX_SAMPLES} of {MAX_HORIZON} allowed"
        )
    opened = open_run(session, runs, run_id)
    item = Prompt("live", _checked(prompt), "test")
    _fits(opened, replace(item, text=opened.control + item.text), horizon)
    for number, side in enumerate(sides):
        policy, decoder = _who(opened, side)
        part, n = {"side": number, "weights": _weights(opened, policy)}, n_candidates(side)
        random = np.stack([uniforms(seed, item.prompt_id, i, horizon) for i in range(samples * n)])
        texts: list[str] = []
        for texts in _grow(policy, decoder, item, random, temperature, top_p):
            yield part | {"texts": texts if n == 1 else []}
        if n > 1:
            yield part | {"texts": kept(opened.constraint, item.text, texts, n)}
    return {"done": True}


def judge(
    session: Session, runs: str, run_id: str, prompt: str, texts: Sequence[str]
) -> dict[str, Any]:
    """Grades of responses to a prompt by the run's constraint, and scores by all its scorers."""
    opened = open_run(session, runs, run_id)
    grades = opened.constraint.score([prompt] * len(texts), texts)
    return {"satisfaction": [float(grade) for grade in grades], "scores": opened.scores(texts)}


def _checked(prompt: str) -> str:
    if not prompt.strip():
        raise DataError("the prompt is empty; type a beginning to continue")
    return bounded("prompt", prompt)


def _fits(opened: OpenedRun, prompt: Prompt, horizon: int) -> None:
    """Returns if the model can read the prompt and all that may follow it."""
    backbone = opened.base.backbone
    ids = encode_prompt(backbone, prompt, chat_template=opened.base.chat_template)
    if len(ids) + horizon > backbone.context_length:
        raise DataError(
            f"the prompt has {len(ids):,} tokens and {horizon} may follow; the model reads "
            f"{backbone.context_length:,}; shorten the prompt or the horizon"
        )


@dataclass(frozen=True)
class _Text:
    """A text as token ids."""

    prompt: str
    ids: list[int]
    start: int
    """Index of the response's first token."""


def _text_ids(
    opened: OpenedRun,
    prompt: str,
    response: str,
    prompt_ids: Sequence[int] | None,
    response_ids: Sequence[int] | None,
) -> _Text:
    backbone, is_chat = opened.base.backbone, opened.base.chat_template
    item = Prompt("live", prompt, "test")
    if prompt_ids is None:
        _checked(prompt)
        prompt_ids = encode_prompt(backbone, item, chat_template=is_chat)
    if response_ids is None:
        read = full_prompt(backbone, item, chat_template=is_chat)
        bounded("response", response)
        response_ids = encoded_pair(backbone.tokenizer, read, response, is_chat=is_chat)[1]
    ids = [int(token) for token in [*prompt_ids, *response_ids]]
    longest = min(MAX_TOKENS, opened.context_length)
    if len(ids) > longest:
        raise DataError(f"the text has {len(ids):,} tokens; at most {longest:,} are scored")
    if len(ids) < 2:
        raise DataError("the text has fewer than two tokens; nothing follows the first")
    said = prompt or str(backbone.tokenizer.decode(prompt_ids, skip_special_tokens=True))
    return _Text(said, ids, len(prompt_ids))


def _valued(opened: OpenedRun, version: int, text: _Text) -> dict[str, Any]:
    """Rows of a text, its parts as token ids, and what every scorer gives its response."""
    backbone = opened.base.backbone
    response = response_text(backbone.decode, text.ids[: text.start], text.ids[text.start :])
    guide = opened.guide(version) if version else None
    return {
        "rows": token_rows(opened, version, text.ids, text.start, text.prompt),
        "weights": {
            "base": _weights(opened, opened.base),
            "tuned": _weights(opened, opened.policy(version)),
            "guided": opened.anchor(version) if guide else None,
        },
        "first": TokenTexts(backbone.spell).add(text.ids[0]),
        "prompt": text.prompt,
        "prompt_ids": text.ids[: text.start],
        "response_ids": text.ids[text.start :],
        "scores": {name: values[0] for name, values in opened.scores([response]).items()},
    }


@torch.inference_mode()
def _continued(policy: Policy, ids: list[int], length: int) -> list[int]:
    """The ids with the likeliest next tokens, up to a length or the end of the text."""
    token_ids = torch.tensor([policy.seen(ids)], device=policy.device)
    state = CachedDecoder(
        policy.backbone.model, token_ids, torch.ones_like(token_ids, dtype=torch.bool)
    )
    end_ids = policy.backbone.end_ids
    ids = list(ids)
    while len(ids) < length and ids[-1] not in end_ids:
        chosen = logits(policy.backbone.model, state.hidden).argmax(dim=-1)
        ids.append(int(chosen))
        state.append(chosen)
    return ids


@torch.inference_mode()
def _probe(policy: Policy) -> Float[Tensor, " vocab"]:
    """Log-probabilities after the probe text."""
    ids = policy.backbone.tokenizer(PROBE)["input_ids"]
    token_ids = torch.tensor([ids], device=policy.device)
    mask = torch.ones_like(token_ids, dtype=torch.bool)
    return policy.next_logprobs(TokenBatch(token_ids, mask, mask))[0, -1]


@torch.inference_mode()
def _switched_off(opened: OpenedRun) -> float | None:
    """Largest difference from the base when the trained part of the tuned copy is set to zero.

    None where all weights are tuned: nothing can be set to zero.
    """
    if opened.run.adapter.kind == "full":
        return None
    model = opened.tuned.backbone.model
    kept = {n: p.detach().clone() for n, p in model.named_parameters() if "lora_B" in n}
    parameters = dict(model.named_parameters())
    try:
        for name in kept:
            parameters[name].zero_()
        return float((_probe(opened.base) - _probe(opened.tuned)).abs().max())
    finally:
        for name, value in kept.items():
            parameters[name].copy_(value)


def _who(opened: OpenedRun, side: dict[str, Any]) -> tuple[Policy, Decoder | None]:
    """The policy that answers for a side, and what guides it."""
    version, subject = int(side.get("version", 0)), side["subject"]
    if subject == RAD:
        policy = opened.policy(version)
        context = DecoderContext(policy, verdicts=opened.constraint.score)
        return policy, rad_decoder(RadSettings(), context)
    if subject != "guided":
        return opened.policy(0 if subject == "base" else version), None
    policy = opened.policy(int(side.get("weights", version)))
    return policy, opened.decoder(version, policy)


def _weights(opened: OpenedRun, policy: Policy) -> dict[str, Any]:
    """Version and hash of what a policy holds, told from the object that answers."""
    if policy is opened.base:
        return {"version": 0, "sha256": policy.backbone.sha256}
    return {"version": policy.version, "sha256": opened.tuned_sha256}


@torch.inference_mode()
def _grow(
    policy: Policy,
    decoder: Decoder | None,
    prompt: Prompt,
    random: Float[np.ndarray, "batch horizon"],
    temperature: float,
    top_p: float,
) -> Generator[list[str], None, None]:
    """Texts of a policy, guided where there is a decoder, after each token."""
    backbone = policy.backbone
    prompt = with_control(policy, prompt)
    ids = encode_prompt(backbone, prompt, chat_template=policy.chat_template)
    token_ids, mask = left_padded([ids] * len(random), pad_token(backbone.tokenizer))
    state = CachedDecoder(backbone.model, token_ids.to(policy.device), mask.to(policy.device))
    last = token_ids[:, -1].to(policy.device)
    session = None
    if decoder is not None:
        session = begin(decoder, [prompt.text] * len(random), [ids] * len(random))
    drawn: list[list[int]] = [[] for _ in random]
    over = [False] * len(random)
    end_ids = backbone.end_ids
    used_top_p = nucleus(decoder, top_p)
    for position in range(random.shape[1]):
        proposal = logits(backbone.model, state.hidden).log_softmax(dim=-1)
        if session is not None:
            proposal = session.reweight(proposal, state.hidden, last)
        uniform = torch.from_numpy(random[:, position]).to(drawing_device(last.device))
        last, _ = choose(proposal, uniform, temperature, used_top_p)
        for row, token in enumerate(last.tolist()):
            over[row] = over[row] or token in end_ids
            if not over[row]:
                drawn[row].append(token)
        yield response_texts(backbone.decode, ids, drawn)
        if all(over):
            return
        state.append(last)
