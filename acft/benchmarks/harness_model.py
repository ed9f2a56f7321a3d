"""Whom lm-evaluation-harness asks: the policy on the bench, with its control text or decoder."""

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from typing import Any

from acft.benchmarks.base import Bench
from acft.benchmarks.harness_tasks import PACKAGE
from acft.data import TokenizedDocument, collate, micro_batches, pad_token
from acft.decoding.base import DecodedJudge

Request = tuple[tuple[str, str], list[int], list[int]]
"""Texts of a context and an answer, and the tokens of each."""


def asked_model(bench: Bench, batch_size: int) -> Any:
    """The harness's own model around the policy; it answers as the policy is meant to be used."""
    adapter = importlib.import_module(f"{PACKAGE}.models.huggingface")
    backbone = bench.policy.backbone
    model = adapter.HFLM(
        pretrained=backbone.model, tokenizer=backbone.tokenizer, batch_size=batch_size
    )
    if isinstance(bench.reader, DecodedJudge):
        _judge_with_decoder(bench.reader, batch_size, model)
    elif bench.control:
        _put_before_contexts(bench.control, model)
    return model


def _put_before_contexts(control: str, model: Any) -> None:
    """Makes the harness's model read the control text before every context, examples included."""

    def behind(method: Callable[..., Any]) -> Callable[..., Any]:
        def ask(requests: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
            longer = [
                dataclasses.replace(one, arguments=(control + one.args[0], *one.args[1:]))
                for one in requests
            ]
            return method(longer, *args, **kwargs)

        return ask

    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("whole texts have no context that a control text could stand before")

    model.loglikelihood = behind(model.loglikelihood)
    model.generate_until = behind(model.generate_until)
    model.loglikelihood_rolling = refuse


def _judge_with_decoder(judge: DecodedJudge, batch_size: int, model: Any) -> None:
    """Makes the harness's model judge answers as the decoder would draw them."""
    longest = judge.context_length

    def answers(requests: Sequence[Request], **_: Any) -> list[tuple[float, bool]]:
        documents = []
        for number, (_texts, context, answer) in enumerate(requests):
            ids = (*context, *answer)[-longest:]
            documents.append(TokenizedDocument(str(number), "", ids, len(ids) - len(answer)))
        documents.sort(key=lambda document: -len(document.token_ids))
        found: dict[int, tuple[float, bool]] = {}
        for some in micro_batches(documents, batch_size):
            batch = collate(some, pad_token(judge.backbone.tokenizer), longest)
            logprobs, is_likeliest = judge.read(batch.to(judge.device))
            sums, are_likeliest = logprobs.double().sum(1).tolist(), is_likeliest.all(1).tolist()
            for document, nats, is_greedy in zip(some, sums, are_likeliest, strict=True):
                found[int(document.document_id)] = nats, is_greedy
        return [found[number] for number in range(len(requests))]

    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("answers that are drawn are not drawn with a decoder; leave the task out")

    model._loglikelihood_tokens = answers  # which its other methods ask
    model.generate_until = refuse
