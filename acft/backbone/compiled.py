"""Token-by-token passes as one compiled step over a key-value cache that never moves or grows.

A step of a few thousand small kernels waits for Python to launch each. Compiled, it is launched as
a whole; on a GPU it is then recorded as a CUDA graph, which is replayed without Python. Compiled
code serves all models of one shape; caches and graphs belong to one draw and end with it.
"""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel, StaticCache
from transformers.cache_utils import DynamicLayer

from acft.backbone.adapters import sharing_copy
from acft.backbone.attention import group_heads
from acft.backbone.cached_decoder import CachedDecoder
from acft.backbone.compiler import Backend, compiling
from acft.errors import ModelError

LENGTH_STEP = 64
"""Caches hold a multiple of this many tokens: few sizes mean few compilations."""
BATCH_STEP = 16
"""Likewise sequences."""
SIZES_KEPT = 2
"""Sizes whose caches and graphs are kept while others are drawn: prompts come by length, so that
one that is over does not come back soon, and many would fill a GPU."""
WARM_UPS = 3
"""Steps before a CUDA graph is recorded, for libraries to settle. Source: torch.cuda.graph's
documentation."""

Size = tuple[int, int]
"""Sequences and tokens that a cache holds."""
Step = Callable[[Any, Tensor, Tensor, Tensor, StaticCache], Float[Tensor, "batch width"]]


class CompiledSteps:
    """Compiled code by size of cache; the weights are an argument of it."""

    def __init__(self, backend: Backend = "inductor") -> None:
        """Nothing is compiled before the first step."""
        self.turn = threading.Lock()
        """Whose first step it is; two threads at once would compile the same code twice."""
        self._backend = backend
        self._by_size: dict[Size, Step] = {}

    def of(self, size: Size) -> Step:
        """What does one step over a cache of this size."""
        with self.turn:
            if size not in self._by_size:
                compiler: Any = torch.compile  # its overloads do not know of isolation yet
                # else torch counts the sizes together, and gives up at the eighth
                self._by_size[size] = compiler(
                    _hidden, backend=self._backend, dynamic=False, fullgraph=True,
                    isolate_recompiles=True,
                )  # fmt: skip
            return self._by_size[size]


class CompiledModel:
    """A model whose single steps are compiled; it shares the weights of the one it is made of."""

    def __init__(self, model: PreTrainedModel, name: str, steps: CompiledSteps) -> None:
        """Nothing is compiled before the first step.

        Raises:
            ModelError: It keeps something else than the keys and values of all tokens.
        """
        layers = DynamicCache(config=model.config).layers
        if not all(type(layer) is DynamicLayer for layer in layers):
            raise ModelError(
                f"[model] name = {name!r}, a {model.config.model_type!r}, remembers something else "
                "than keys and values of all tokens, which [engine] kind = 'compiled' cannot "
                "replay; set it to 'local'"
            )
        # the model itself, which others use meanwhile, keeps its attention
        self._decoder: Any = sharing_copy(model).base_model
        # the fused kernel would read keys and values that were repeated for every head
        group_heads(self._decoder)
        self._steps = steps
        self._free: dict[Size, list[_Seats]] = {}
        """By size, the one that was used last at the end."""
        self._lock = threading.Lock()

    @contextmanager
    def continued(self, start: CachedDecoder, n_tokens: int) -> Iterator["CompiledDecoder"]:
        """The same sequences, with room for ``n_tokens`` more."""
        batch, time = start.mask.shape
        size = _rounded_up(batch, BATCH_STEP), _rounded_up(time + n_tokens, LENGTH_STEP)
        free = self._of_size(size)
        # threads that draw side by side need a cache each; taking and giving are atomic
        try:
            seats = free.pop()
        except IndexError:
            seats = _Seats(self._decoder, self._steps, size)
        try:
            yield CompiledDecoder(seats, start)
        finally:
            free.append(seats)

    def _of_size(self, size: Size) -> "list[_Seats]":
        """Free caches of this size; those of sizes that were used longest ago are given back."""
        with self._lock:
            free = self._free[size] = self._free.pop(size, [])
            for old in list(self._free)[:-SIZES_KEPT]:
                del self._free[old]
        return free


@no_type_check  # a compiler would trace the checks too
def _hidden(
    decoder: Any, token_ids: Tensor, mask: Tensor, positions: Tensor, cache: StaticCache
) -> Float[Tensor, "batch width"]:
    output = decoder(
        input_ids=token_ids, attention_mask=mask, position_ids=positions,
        past_key_values=cache, use_cache=True,
    )  # fmt: skip
    return output.last_hidden_state[:, -1]


class _Seats:
    """Room for a batch: the tensors that a compiled step reads and writes, always the same ones."""

    def __init__(self, decoder: Any, steps: CompiledSteps, size: Size) -> None:
        device = decoder.device
        self.batch, self.length = size
        self.token_ids = torch.zeros(self.batch, 1, dtype=torch.long, device=device)
        self.positions = torch.zeros_like(self.token_ids)
        self.mask = torch.ones(self.batch, self.length, dtype=torch.long, device=device)
        self.cache: Any = StaticCache(config=decoder.config, max_cache_len=self.length)
        self._decoder = decoder
        self._step = steps.of(size)
        self._turn: AbstractContextManager[Any] = steps.turn
        self._graph: Any = None
        self._hidden: Tensor | None = None

    def place(self, start: CachedDecoder, rows: Int[Tensor, " batch"]) -> None:
        """Copies the keys and values of these rows."""
        time = start.mask.shape[1]
        # what is not written yet is hidden as any later token is
        self.mask.fill_(1)
        self.mask[:, :time] = start.mask[rows]
        self.positions.copy_(start.next_position[rows])
        for own, layer in zip(self.cache.layers, start.cache.layers, strict=True):
            if not own.is_initialized:
                own.lazy_initialization(layer.keys[rows], layer.values[rows])
        if self._graph is None and self.mask.is_cuda:
            self._record()
        for own, layer in zip(self.cache.layers, start.cache.layers, strict=True):
            own.keys[:, :, :time] = layer.keys[rows]
            own.values[:, :, :time] = layer.values[rows]
            own.cumulative_length.fill_(time)

    def advance(self) -> Float[Tensor, "batch width"]:
        """Hidden states of ``token_ids``; the next call may overwrite them."""
        if self._graph is None:
            return self._run()
        self._graph.replay()
        assert self._hidden is not None
        return self._hidden

    def _run(self) -> Tensor:
        with self._turn, compiling("a step of the model", "[engine] kind = 'local'"):
            hidden = self._step(
                self._decoder, self.token_ids, self.mask, self.positions, self.cache
            )
        if not isinstance(self._turn, nullcontext):
            self._turn = nullcontext()
            gc.collect()  # the compiler leaves cycles that hold this cache and these weights
        return hidden

    def _record(self) -> None:
        """Records a step as a CUDA graph."""
        for layer in self.cache.layers:
            layer.cumulative_length.zero_()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # other threads may go on allocating memory meanwhile
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._hidden = self._run()
        self._graph = graph


class CompiledDecoder:
    """One batch of sequences being extended token by token, as ``CachedDecoder`` does."""

    def __init__(self, seats: _Seats, start: CachedDecoder) -> None:
        """Takes over the sequences; ``hidden`` is their newest token's state."""
        n = len(start.mask)
        # seats that nobody needs are taken by the first sequence once more
        rows = pad(torch.arange(n, device=start.mask.device), (0, seats.batch - n))
        seats.place(start, rows)
        self._seats = seats
        self._n = n
        self.hidden: Float[Tensor, "batch width"] = start.hidden

    def append(self, token_ids: Int[Tensor, " batch"]) -> None:
        """Extend every sequence by one token; ``hidden`` is then that token's state."""
        seats = self._seats
        seats.token_ids[: self._n, 0] = token_ids
        self.hidden = seats.advance()[: self._n].clone()
        seats.positions += 1


def _rounded_up(n: int, step: int) -> int:
    return -(-n // step) * step
