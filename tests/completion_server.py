"""A completion server over real HTTP around a real model; small, slow and strict.

It speaks the protocol as vLLM does: token ids in and out, log-probabilities, adapters that are
loaded while it runs, by peft itself, and under SGLang's paths and names too. Switches turn it into
lesser or broken servers.
"""

import copy
import json
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

LOAD = ("/v1/load_lora_adapter", "/load_lora_adapter")
UNLOAD = ("/v1/unload_lora_adapter", "/unload_lora_adapter")


@dataclass
class CompletionServer:
    """What it serves, and how it misbehaves."""

    folder: Path
    name: str = "base"
    tells_ids: bool = True
    tells_logprobs: bool = True
    tells_scaled: bool = False
    """Log-probabilities are those at the temperature, as SGLang has them."""
    can_load: bool = True
    failures: int = 0
    """So many requests fail before one is answered."""
    top_k: int = 0
    """Draws only from so many tokens, without saying so."""
    key: str = ""
    models: dict[str, Any] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of all completions asked for."""
    address: str = ""

    def __post_init__(self) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()
        self.models[self.name] = model
        self._lock = threading.Lock()

    def answer(self, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        """Status and content."""
        with self._lock:
            if self.failures:
                self.failures -= 1
                return 503, {"error": "busy"}
            if path == "/v1/models":
                return 200, {"data": [{"id": name} for name in self.models]}
            if path == "/v1/completions" and body is not None:
                self.requests.append(body)
                return self._completion(body)
            if path in LOAD and body is not None and self.can_load:
                if body["lora_name"] in self.models:
                    return 400, {"error": f"{body['lora_name']} is already loaded"}
                self.models[body["lora_name"]] = self._adapted(body["lora_path"])
                return 200, "loaded"
            if path in UNLOAD and body is not None:
                gone = self.models.pop(body["lora_name"], None)
                return (200, "gone") if gone is not None else (404, {"error": "unknown adapter"})
        return 404, {"error": f"no {path}"}

    def _adapted(self, folder: str) -> Any:
        with warnings.catch_warnings():  # peft asks transformers for something of an old name
            warnings.simplefilter("ignore", FutureWarning)
            base = copy.deepcopy(self.models[self.name])
            return PeftModel.from_pretrained(base, folder).eval()

    def _completion(self, body: dict[str, Any]) -> tuple[int, Any]:
        model = self.models.get(body["model"].removeprefix(f"{self.name}:"))
        if model is None:
            return 404, {"error": f"no model {body['model']}"}
        prompt = body["prompt"]
        prompt_ids = self.tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt
        ids, logprobs = self._draw(model, prompt_ids, body)
        is_ended = ids[-1] == self.tokenizer.eos_token_id
        choice: dict[str, Any] = {
            "text": self.tokenizer.decode(ids, skip_special_tokens=True),
            "finish_reason": "stop" if is_ended else "length",
        }
        if self.tells_ids and body.get("return_token_ids"):
            choice["token_ids"] = ids
        if self.tells_logprobs and "logprobs" in body:
            choice["logprobs"] = {"token_logprobs": logprobs}
        usage = {"prompt_tokens": len(prompt_ids), "completion_tokens": len(ids)}
        return 200, {"choices": [choice], "usage": usage}

    @torch.no_grad()
    def _draw(
        self, model: Any, prompt_ids: list[int], body: dict[str, Any]
    ) -> tuple[list[int], list[float]]:
        generator = torch.Generator().manual_seed(body["seed"])
        ids, logprobs = list(prompt_ids), []
        for _ in range(body["max_tokens"]):
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1].float()
            scaled = logits / body.get("temperature", 1.0)
            probs = scaled.softmax(dim=-1)
            logprobs_all = (scaled if self.tells_scaled else logits).log_softmax(dim=-1)
            if self.top_k:
                probs[probs < probs.topk(self.top_k).values[-1]] = 0.0
            token = int(torch.multinomial(probs, 1, generator=generator))
            ids.append(token)
            logprobs.append(float(logprobs_all[token]))
            if token == self.tokenizer.eos_token_id:
                break
        return ids[len(prompt_ids) :], logprobs


@contextmanager
def serving(server: CompletionServer) -> Iterator[CompletionServer]:
    """The server at work on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(None)

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            self._reply(json.loads(self.rfile.read(length)))

        def _reply(self, body: dict[str, Any] | None) -> None:
            is_known = not server.key or self.headers["Authorization"] == f"Bearer {server.key}"
            status, content = server.answer(self.path, body) if is_known else (401, "no key")
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
            pass

    class OneThread(HTTPServer):
        # a thread for each request would start torch's own threads each time
        request_queue_size = 128

    http = OneThread(("127.0.0.1", 0), Handler)
    server.address = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
