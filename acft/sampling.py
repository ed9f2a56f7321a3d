"""Drawing responses: one uniform number per token and rollout, whatever else is in the batch."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from acft.backbone.cached_decoder import CachedDecoder
from acft.backbone.forward import logits
from acft.backbone.loading import Backbone
from acft.data import even_parts, pad_token
from acft.prompt_tokens import check_lengths, encode_prompt, response_text
from acft.reweighting import CheckedSession, Decoder, begin
from acft.settings import SamplingSettings
from acft.threads import Workers
from acft.token_choice import choose, choose_plainly, drawing_device, uniforms
from acft.types import DrawChecks, Prompt, Rollout, Window
from acft.windows import join_windows, left_padded, window_of

CONTINUATION_BATCH = 256
"""Continuations drawn at once."""

CPU_BATCHES = 2
"""Batches on a CPU are a multiple of this, so that two workers end together. It does not follow the
number of cores: what is drawn must not depend on the machine."""

CPU_UNDIVIDED = 31
"""So few responses are one batch on a CPU as well: halves would keep no core busy."""

ASKED_EVERY = 8
"""Tokens after which a GPU is asked whether all responses have ended: asking waits for it."""


@runtime_checkable
class Extended(Protocol):
    """A batch of sequences that are extended token by token."""

    hidden: Float[Tensor, "batch width"]
    """Of the newest token of each sequence."""

    def append(self, token_ids: Int[Tensor, " batch"]) -> None:
        """Extend every sequence by one token; ``hidden`` is then that token's state."""
        ...


Continued = Callable[[CachedDecoder, int], AbstractContextManager[Extended]]
"""Turns the cache of the prompts into the state that is extended, with room for n tokens."""


def as_read(start: CachedDecoder, n_tokens: int) -> AbstractContextManager[Extended]:  # noqa: ARG001
    """The sequences themselves, extended in the cache that their prompts were read into."""
    return nullcontext(start)


@dataclass(frozen=True)
class Samples:
    """Drawn responses and, where asked for, what the oracle reads of them."""

    rollouts: list[Rollout]
    windows: Window | None = None
    checks: DrawChecks = field(default_factory=DrawChecks)
    """Of responses that a server drew."""


@dataclass(frozen=True)
class DrawRequest:
    """``n`` responses to each prompt, and how they are drawn."""

    prompts: Sequence[Prompt]
    n: int
    sampling: SamplingSettings
    seed: int
    policy_version: int = 0
    chat_template: bool = False
    keep_hidden: bool = False
    """Whether hidden states of the last prompt token and of every response token are returned as
    well, in float16 on the CPU."""
    workers: Workers = field(default_factory=Workers)
    """Threads of this process that may compute."""


def nucleus(decoder: Decoder | None, top_p: float) -> float:
    """Top-p at which is drawn: 1 from a decoder that truncates by itself, else as asked for."""
    return 1.0 if decoder is not None and decoder.truncates else top_p


@dataclass(frozen=True)
class _Item:
    prompt: Prompt
    prompt_ids: tuple[int, ...]
    sample: int


@torch.no_grad()
def draw(
    backbone: Backbone,
    request: DrawRequest,
    *,
    decoder: Decoder | None = None,
    continued: Continued = as_read,
) -> Samples:
    """What is asked for, drawn in this process; ordered by prompt and sample number.

    Args:
        decoder: Chooses from another distribution than the policy's; one that truncates by itself
            is drawn from at top-p 1, whatever is asked for.
        continued: What extends the prompts.

    Raises:
        DataError: A prompt is empty or, with the horizon, longer than the model's context; or the
            decoder gives no distribution.
    """
    asked = request.sampling
    used = asked.at(asked.temperature, nucleus(decoder, asked.top_p))
    request = replace(request, sampling=used)
    encoded = [
        encode_prompt(backbone, prompt, chat_template=request.chat_template)
        for prompt in request.prompts
    ]
    check_lengths(request.prompts, encoded, request.sampling.horizon, backbone.context_length)
    items = [
        _Item(prompt, ids, sample)
        for prompt, ids in zip(request.prompts, encoded, strict=True)
        for sample in range(request.n)
    ]
    at_once = CPU_BATCHES if backbone.model.device.type == "cpu" else 1
    order, batches = _batches(items, request.sampling.batch_size, at_once)

    def run(batch: Sequence[int]) -> tuple[list[Rollout], Window | None]:
        with torch.no_grad():  # which the threads of the workers do not inherit
            return _draw_batch(backbone, [items[i] for i in batch], request, decoder, continued)

    return _in_request_order(order, request.workers.map(run, batches))


@torch.no_grad()
def continuations(
    backbone: Backbone, sequences: Sequence[tuple[int, ...]], n: int, length: int, seed: int
) -> list[list[tuple[int, ...]]]:
    """``n`` continuations of each token sequence, of ``length`` tokens or up to the end of text.

    Random numbers depend on seed, sequence and sample number alone.
    """
    prompts = [Prompt("-".join(map(str, ids)), "", "test") for ids in sequences]
    request = DrawRequest(prompts, n, SamplingSettings(horizon=length), seed)
    items = [
        _Item(prompt, ids, sample)
        for prompt, ids in zip(prompts, sequences, strict=True)
        for sample in range(n)
    ]
    drawn: list[Rollout] = []
    for start in range(0, len(items), CONTINUATION_BATCH):
        some = items[start : start + CONTINUATION_BATCH]
        drawn += _draw_batch(backbone, some, request, None, as_read)[0]
    return [
        [rollout.response_ids for rollout in drawn[start : start + n]]
        for start in range(0, len(drawn), n)
    ]


def _batches(items: list[_Item], size: int, at_once: int) -> tuple[list[int], list[list[int]]]:
    """The order in which items are drawn, whole and in batches of at most ``size``.

    Similar lengths side by side waste little padding; the longest come first, so memory fails
    early. What is drawn at once has prompts of all lengths of its share, so that it ends at once.
    """
    order = sorted(range(len(items)), key=lambda i: (-len(items[i].prompt_ids), i))
    n_turns = math.ceil(len(order) / (size * at_once))
    if len(order) <= min(size, CPU_UNDIVIDED):
        at_once = 1
    batches = [
        batch for turn in even_parts(order, n_turns) for batch in _dealt(items, turn, at_once)
    ]
    return [index for batch in batches for index in batch], batches


def _dealt(items: list[_Item], turn: Sequence[int], count: int) -> list[list[int]]:
    """``count`` batches of equal size; who shares a prompt, which is read once, stays together."""
    size = math.ceil(len(turn) / count)
    batches: list[list[int]] = [[] for _ in range(count)]
    for _, same in groupby(turn, key=lambda index: items[index].prompt_ids):
        left = list(same)
        while left:
            batch = min(batches, key=len)
            room = size - len(batch)
            batch += left[:room]
            left = left[room:]
    return [batch for batch in batches if batch]


def _draw_batch(
    backbone: Backbone,
    items: list[_Item],
    request: DrawRequest,
    decoder: Decoder | None,
    continued: Continued,
) -> tuple[list[Rollout], Window | None]:
    horizon = request.sampling.horizon
    prompt, last = _prefill(backbone, items)
    drawn = [uniforms(request.seed, i.prompt.prompt_id, i.sample, horizon) for i in items]
    random = torch.from_numpy(np.stack(drawn)).to(drawing_device(last.device))
    session = None
    if decoder is not None:
        session = begin(decoder, [i.prompt.text for i in items], [i.prompt_ids for i in items])
    with continued(prompt, horizon) as state:
        response, hidden = _respond(
            backbone, state, last, random, request.sampling, session,
            keep_hidden=request.keep_hidden,
        )  # fmt: skip
    if session is not None:
        session.check_drawn(response.drawn_logprobs, response.mask)
    rollouts = _rollouts(backbone, items, response, request.policy_version)
    if not request.keep_hidden:
        return rollouts, None
    prompts = [item.prompt_ids for item in items]
    states = torch.stack(hidden, dim=1)
    return rollouts, window_of(prompts, response.token_ids, response.mask, states, horizon)


def _respond(
    backbone: Backbone,
    state: Extended,
    last: Int[Tensor, " batch"],
    random: Float[Tensor, "batch horizon"],
    sampling: SamplingSettings,
    session: CheckedSession | None,
    *,
    keep_hidden: bool,
) -> tuple["_Response", list[Tensor]]:
    """The drawn tokens, and the hidden states before and, where they are kept, after each."""
    alive = torch.ones(len(last), dtype=torch.bool, device=last.device)
    tokens, policy_lps, drawn_lps, masks, hidden = [], [], [], [], [state.hidden]
    every = _asked_every(last.device)
    ends = torch.tensor(backbone.end_ids, dtype=torch.long, device=last.device)
    for position in range(sampling.horizon):
        scores = logits(backbone.model, state.hidden)
        if session is None and (sampling.temperature, sampling.top_p) == (1.0, 1.0):
            chosen, policy_lp = choose_plainly(scores, random[:, position])
            chosen_lp = policy_lp
        else:
            next_logprobs = scores.log_softmax(dim=-1)
            proposal = next_logprobs
            if session is not None:
                proposal = session.reweight(next_logprobs, state.hidden, last)
            chosen, chosen_lp = choose(
                proposal, random[:, position], sampling.temperature, sampling.top_p
            )
            policy_lp = next_logprobs.gather(1, chosen[:, None])[:, 0]
            if session is not None:  # scorers know the text of what has ended
                chosen = torch.where(alive, chosen, last)
        tokens.append(chosen)
        policy_lps.append(policy_lp)
        drawn_lps.append(chosen_lp)
        masks.append(alive)
        alive = alive & ~torch.isin(chosen, ends)
        is_last = position + 1 == sampling.horizon
        if (position + 1) % every == 0:
            is_last = is_last or not bool(alive.any())
        if is_last and not keep_hidden:
            break
        state.append(chosen)
        hidden.append(state.hidden)
        last = chosen
        if is_last:
            break
    mask = torch.stack(masks, 1)
    length = int(mask.any(dim=0).sum())  # the rest was drawn before anybody asked
    response = _Response(
        torch.stack(tokens, 1)[:, :length], torch.stack(policy_lps, 1)[:, :length],
        torch.stack(drawn_lps, 1)[:, :length], mask[:, :length],
    )  # fmt: skip
    return response, hidden[: length + 1]


def _asked_every(device: torch.device) -> int:
    """Tokens after which it is asked whether all responses have ended."""
    return 1 if device.type == "cpu" else ASKED_EVERY


@dataclass(frozen=True)
class _Response:
    token_ids: Int[Tensor, "batch length"]
    policy_logprobs: Float[Tensor, "batch length"]
    drawn_logprobs: Float[Tensor, "batch length"]
    mask: Tensor


def _prefill(backbone: Backbone, items: list[_Item]) -> tuple[CachedDecoder, Int[Tensor, " batch"]]:
    device = backbone.model.device
    prompts = list(dict.fromkeys(item.prompt_ids for item in items))
    row = {ids: index for index, ids in enumerate(prompts)}
    token_ids, mask = left_padded(prompts, pad_token(backbone.tokenizer))
    token_ids = token_ids.to(device)
    state = CachedDecoder(backbone.model, token_ids, mask.to(device))
    rows = torch.tensor([row[item.prompt_ids] for item in items], device=device)
    state.select(rows)
    return state, token_ids[rows, -1]


def _rollouts(
    backbone: Backbone, items: list[_Item], response: _Response, policy_version: int
) -> list[Rollout]:
    lengths = response.mask.sum(dim=1).tolist()
    tokens = response.token_ids.tolist()
    policy_lps = response.policy_logprobs.tolist()
    drawn_lps = response.drawn_logprobs.tolist()
    end_ids = backbone.end_ids
    result = []
    for index, item in enumerate(items):
        ids = tuple(tokens[index][: lengths[index]])
        said = [token for token in ids if token not in end_ids]
        text = response_text(backbone.decode, item.prompt_ids, said)
        logprobs = tuple(policy_lps[index][: len(ids)])
        log_weight = sum(logprobs) - sum(drawn_lps[index][: len(ids)])
        result.append(
            Rollout(
                rollout_id=f"{item.prompt.prompt_id}-{item.sample}",
                prompt_id=item.prompt.prompt_id,
                prompt_text=item.prompt.text,
                response_text=text,
                prompt_ids=item.prompt_ids,
                response_ids=ids,
                response_logprobs=logprobs,
                policy_version=policy_version,
                log_weight=log_weight,
            )
        )
    return result


def _in_request_order(
    order: list[int], drawn: list[tuple[list[Rollout], Window | None]]
) -> Samples:
    rollouts = [rollout for batch, _ in drawn for rollout in batch]
    position = sorted(range(len(order)), key=lambda i: order[i])
    windows = [window for _, window in drawn if window is not None]
    if not windows:
        return Samples([rollouts[i] for i in position])
    whole = join_windows(windows)
    return Samples([rollouts[i] for i in position], whole[torch.tensor(position)])
