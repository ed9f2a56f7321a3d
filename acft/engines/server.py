"""Drawing from a server: what all kinds share; what differs is a subclass in its own file."""

import logging
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import torch

from acft.backbone.adapters import save_trainable
from acft.backbone.loading import Backbone
from acft.backbone.saving import write_model
from acft.distributed import ranks
from acft.engines.answers import Answer, Uncertain, answer_of, response_ids
from acft.engines.http import RefusedError, Server
from acft.engines.places import address_of, folder_of, key
from acft.engines.readback import Read, read_again
from acft.engines.weights import digest, write_once
from acft.errors import ModelError
from acft.prompt_tokens import check_lengths, encode_prompt, full_prompt, response_text
from acft.sampling import DrawRequest, Samples
from acft.seeding import derive_seed
from acft.settings import AdapterSettings, RunSettings, SamplingSettings
from acft.types import DrawChecks, Prompt, Rollout
from acft.windows import join_windows

ATTEMPTS = 16
"""Tries at one response whose tokens can be told."""
KEPT = 3
"""Weights that stay published; older ones are taken back."""
CLOSING_SECONDS = 5.0
"""Patience with a server when a run is over."""
SURPRISE_MAX = 6.0
"""Standard deviations that responses of the policy itself never reach."""
POLL_SECONDS = 1.0
SEED_BITS = 31
"""Number of bits of a seed that every server takes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """What one request asks for."""

    model: str
    text: str
    prompt_ids: tuple[int, ...]
    seed: int
    sampling: SamplingSettings
    tokenizer: Any
    end_ids: tuple[int, ...]


@dataclass(frozen=True)
class _Task:
    prompt: Prompt
    text: str
    prompt_ids: tuple[int, ...]
    sample: int


@dataclass(frozen=True)
class _Drawn:
    task: _Task
    response_ids: tuple[int, ...]
    logprobs: tuple[float, ...] | None
    n_refused: int


class CompletionEngine:
    """Draws from a server of the completions protocol, and believes only what it can check."""

    requests_max: int | None = None
    """Requests that the server handles at once without mixing up their seeds; None = any number."""
    shares_adapters = False
    """Whether adapters are published, as opposed to whole weights."""
    tells_unscaled = False
    """Whether the log-probabilities it tells are known to be those at temperature 1, whichever it
    draws at."""

    def __init__(self, run: RunSettings) -> None:
        settings = run.engine
        self.settings = settings
        self.base_name = settings.model or run.model.name
        self.server = Server(
            address_of(settings), key=key(), timeout_seconds=settings.timeout_seconds,
            retries=settings.retries,
        )  # fmt: skip
        self._folder = folder_of(settings)
        self._lock = threading.Lock()
        self._published: list[str] = []
        self._known: set[str] = set()
        self._checks: dict[str, DrawChecks] = {}

    # what a kind of server may do otherwise

    def request(self, question: Question) -> dict[str, Any]:
        """Body of the request for one response."""
        sampling = question.sampling
        return {
            "model": question.model, "prompt": question.text, "seed": question.seed,
            "max_tokens": sampling.horizon, "temperature": sampling.temperature,
            "top_p": sampling.top_p, "logprobs": 1,
        }  # fmt: skip

    def model_name(self, weights: str) -> str:
        """What requests call weights; ``weights`` is empty for the base policy."""
        return weights or self.base_name

    def load(self, name: str, folder: Path) -> None:
        """Makes the server know weights that lie in a folder; waits for it to be started with them.

        Raises:
            ModelError: Nobody has done so.
        """
        until = monotonic() + self.settings.reload_seconds
        while name not in self.served():
            if monotonic() >= until:
                raise ModelError(
                    f"rollout server {self.server.address} cannot load new weights by itself; "
                    f"start it within [engine] reload_seconds ({self.settings.reload_seconds:g}) "
                    f"with the model in {str(folder)!r} under the name {name!r}, or take an "
                    "engine that reloads (acft list engines)"
                )
            sleep(POLL_SECONDS)

    def unload(self, name: str) -> None:
        """Makes the server forget weights."""

    def served(self) -> list[str]:
        """Names of the models that the server says it has.

        Raises:
            ModelError: It does not answer.
        """
        reply = self.server.call("/v1/models")
        try:
            return [str(model["id"]) for model in reply["data"]]
        except (TypeError, KeyError):
            raise ModelError(
                f"rollout server {self.server.address} lists no models under /v1/models; is it a "
                "completion server?"
            ) from None

    def check_base(self) -> None:
        """Refuses a server of another model.

        Raises:
            ModelError: It serves others.
        """
        if self.base_name not in (names := self.served()):
            raise ModelError(
                f"rollout server {self.server.address} serves {', '.join(names) or 'no model'}, "
                f"not {self.base_name!r}; set [engine] model to its name for the base policy"
            )

    # the engine

    def publish(self, tuned: Backbone, merged: Backbone, adapter: AdapterSettings | None) -> str:
        """Leaves new weights in a folder and tells the server; returns their name."""
        name = ranks().from_first(f"acft-{digest(tuned)}")

        def write(folder: Path) -> None:
            if self.shares_adapters and adapter is not None and adapter.kind == "lora":
                save_trainable(tuned.model, adapter, folder)
            else:
                write_model(merged, folder)

        with self._lock:
            if name not in self._published:
                write_once(self._folder / name, write)
                self._published.append(name)
            old = self._published[:-KEPT]
            del self._published[:-KEPT]
            self._known.difference_update(old)
        for forgotten in old:
            self._forget(forgotten)
        return name

    def draw(self, backbone: Backbone, weights: str, request: DrawRequest) -> Samples:
        """Responses by the server, read again by the policy.

        Raises:
            ModelError: The server is missing, of another model, or draws from something else.
        """
        self._make_ready(weights)
        tasks = _tasks(backbone, request)
        done = self._ask_all(backbone, weights, tasks, request)
        order = sorted(range(len(done)), key=lambda i: (len(done[i].task.prompt_ids), i))
        size = request.sampling.batch_size
        pieces = [order[start : start + size] for start in range(0, len(order), size)]
        made: dict[int, Rollout] = {}
        windows, checks = [], DrawChecks(n_refused=sum(drawn.n_refused for drawn in done))
        for piece in pieces:
            some = [done[i] for i in piece]
            read = read_again(
                backbone, [d.task.prompt_ids for d in some], [d.response_ids for d in some],
                request.sampling, keep_hidden=request.keep_hidden,
            )  # fmt: skip
            made |= dict(zip(piece, _rollouts(backbone, some, read, request), strict=True))
            checks += read.checks + _gap(some, read)
            windows += [read.window] if read.window is not None else []
        self._judge(weights, checks)
        rollouts = [made[i] for i in range(len(done))]
        if not windows:
            return Samples(rollouts, checks=checks)
        place = {index: row for row, index in enumerate(order)}
        rows = [place[i] for i in range(len(done))]
        return Samples(rollouts, join_windows(windows)[torch.tensor(rows)], checks)

    def prepared(self, backbone: Backbone) -> AbstractContextManager[None]:  # noqa: ARG002
        """The server is set up already."""
        return nullcontext()

    def close(self) -> None:
        """Takes back all weights; a server that has gone is only told of."""
        if ranks().rank:
            return
        self.server.hurry(CLOSING_SECONDS)
        try:
            for name in self._published:
                self._unload(name)
        except ModelError as error:
            log.warning("%s; it may keep %s in memory", error, ", ".join(self._published))
        for name in self._published:
            self._delete(name)
        self._published.clear()
        self._known.clear()

    def _make_ready(self, weights: str) -> None:
        with self._lock:
            if weights in self._known:
                return
            if not weights:
                self.check_base()
            else:
                self.load(weights, self._folder / weights)
            self._known.add(weights)

    def _ask_all(
        self, backbone: Backbone, weights: str, tasks: list[_Task], request: DrawRequest
    ) -> list[_Drawn]:
        pool = ThreadPoolExecutor(min(self.settings.requests, self.requests_max or 1 << 16))
        try:
            return list(pool.map(lambda task: self._ask(backbone, weights, task, request), tasks))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _ask(self, backbone: Backbone, weights: str, task: _Task, request: DrawRequest) -> _Drawn:
        """One response; another seed where the tokens of the one before could not be told."""
        why = ""
        for attempt in range(ATTEMPTS):
            parts = [task.prompt.prompt_id, task.sample, *([attempt] if attempt else [])]
            question = Question(
                self.model_name(weights), task.text, task.prompt_ids,
                derive_seed(request.seed, "rollout", *parts) % (1 << SEED_BITS),
                request.sampling, backbone.tokenizer, backbone.end_ids,
            )  # fmt: skip
            answer = self._completion(self.request(question))
            self._check_prompt(answer, task)
            try:
                ids = response_ids(
                    answer, backbone.tokenizer, backbone.end_ids, request.sampling.horizon
                )
            except Uncertain as reason:
                why = str(reason)
                continue
            return _Drawn(task, ids, self._told(answer, len(ids), request.sampling), attempt)
        raise ModelError(
            f"rollout server {self.server.address} gave {ATTEMPTS} responses to prompt "
            f"{task.prompt.prompt_id!r} whose tokens are not certain (last: {why}); "
            "take an engine whose server names token ids (acft list engines)"
        )

    def _told(
        self, answer: Answer, n_tokens: int, sampling: SamplingSettings
    ) -> tuple[float, ...] | None:
        """Log-probabilities that can be compared with the policy's."""
        is_whole = len(answer.logprobs or ()) == n_tokens
        is_unscaled = self.tells_unscaled or sampling.temperature == 1.0
        return answer.logprobs if is_whole and is_unscaled else None

    def _completion(self, body: dict[str, Any]) -> Answer:
        try:
            return answer_of(self.server.call("/v1/completions", body))
        except ValueError as error:
            raise ModelError(
                f"rollout server {self.server.address} answers /v1/completions with {error}"
            ) from None

    def _check_prompt(self, answer: Answer, task: _Task) -> None:
        n = len(task.prompt_ids)
        if answer.n_prompt_tokens not in (None, n):
            raise ModelError(
                f"rollout server {self.server.address} reads prompt {task.prompt.prompt_id!r} as "
                f"{answer.n_prompt_tokens} tokens, the policy's tokenizer as {n}; is it another "
                "model, does it add tokens to a chat template's own, or join those of a [method] "
                "control and of the prompt behind it?"
            )

    def _judge(self, weights: str, new: DrawChecks) -> None:
        """Raises where responses are not those of the policy; sums grow over the whole run."""
        with self._lock:
            total = self._checks.get(weights, DrawChecks()) + new
            self._checks[weights] = total
        where = f"rollout server {self.server.address} with {self.model_name(weights)!r}"
        if new.n_gap and new.gap / new.n_gap > self.settings.gap_max:
            raise ModelError(
                f"{where} tells log-probabilities that differ from the policy's by "
                f"{new.gap / new.n_gap:.3f} nats a token, above [engine] gap_max = "
                f"{self.settings.gap_max}; is it another model, or in a coarser dtype?"
            )
        if abs(total.z) > SURPRISE_MAX:
            raise ModelError(
                f"{where} does not draw from the policy: {total.n_tokens} tokens are "
                f"{total.surprise / total.n_tokens:+.3f} nats each less likely than expected, "
                f"{abs(total.z):.1f} standard deviations; is it another model, or does it cut "
                "the distribution off (top-k, penalties)?"
            )

    def _forget(self, name: str) -> None:
        if ranks().rank:
            return
        try:
            self._unload(name)
        finally:
            self._delete(name)

    def _unload(self, name: str) -> None:
        with suppress(RefusedError):  # it has forgotten them already
            self.unload(name)

    def _delete(self, name: str) -> None:
        shutil.rmtree(self._folder / name, ignore_errors=True)


def _tasks(backbone: Backbone, request: DrawRequest) -> list[_Task]:
    texts = [full_prompt(backbone, p, chat_template=request.chat_template) for p in request.prompts]
    encoded = [
        encode_prompt(backbone, p, chat_template=request.chat_template) for p in request.prompts
    ]
    check_lengths(request.prompts, encoded, request.sampling.horizon, backbone.context_length)
    return [
        _Task(prompt, text, ids, sample)
        for prompt, text, ids in zip(request.prompts, texts, encoded, strict=True)
        for sample in range(request.n)
    ]


def _rollouts(
    backbone: Backbone, drawn: list[_Drawn], read: Read, request: DrawRequest
) -> list[Rollout]:
    """Rollouts with the policy's log-probabilities, weighted where the server's differ."""
    is_plain = request.sampling.temperature == 1.0 and request.sampling.top_p == 1.0
    result = []
    for item, logprobs, own in zip(drawn, read.logprobs, read.drawn_logprobs, strict=True):
        told = item.logprobs if is_plain and item.logprobs is not None else own
        ids = [t for t in item.response_ids if t not in backbone.end_ids]
        prompt = item.task.prompt
        result.append(
            Rollout(
                rollout_id=f"{prompt.prompt_id}-{item.task.sample}",
                prompt_id=prompt.prompt_id,
                prompt_text=prompt.text,
                response_text=response_text(backbone.decode, item.task.prompt_ids, ids),
                prompt_ids=item.task.prompt_ids,
                response_ids=item.response_ids,
                response_logprobs=logprobs,
                policy_version=request.policy_version,
                log_weight=sum(logprobs) - sum(told),
            )
        )
    return result


def _gap(drawn: list[_Drawn], read: Read) -> DrawChecks:
    gaps = [
        abs(told - own)
        for item, logprobs in zip(drawn, read.logprobs, strict=True)
        if item.logprobs is not None
        for told, own in zip(item.logprobs, logprobs, strict=True)
    ]
    return DrawChecks(gap=sum(gaps, 0.0), n_gap=len(gaps))
