"""Tokens: which tokens of a text pay for the constraint, under base, guided and tuned policy."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from acft.errors import AcftError, RunError
from acft.schema import TOXIC_FROM
from acft.store.queries.answer import Answer, Slice
from acft.store.queries.rollouts import rollout
from acft.store.queries.tokens import (
    guidance,
    has_first_token,
    sequence_versions,
    sequences,
    sum_check,
)
from acft.ui.page import PAGES, Page, Visit, Wire, Workbench
from acft.ui.parts.frame import title, underway
from acft.ui.parts.live import WAITING, is_possible, policies_of, trained
from acft.ui.parts.live_compare import other_version
from acft.ui.parts.live_tokens import (
    Request,
    about_computed,
    branched,
    of_stored,
    of_text,
    offer,
    scored,
)
from acft.ui.parts.runs_menu import absent, chosen_run, follow_state, no_run, run_menu
from acft.ui.parts.vocabulary import paying
from acft.ui.reading.reader import Run
from acft.ui.reading.tokens import TOLERANCE, never_stored, none_stored, payload, token_view
from acft.ui.web import words
from acft.ui.web.dom import (
    Node,
    act,
    choose,
    el,
    notice,
    settle,
    veil,
    view,
)
from acft.ui.web.hot_words import is_hot
from acft.ui.web.pager import PART, asked_part, link, pager

PER_PAGE = 30
ORDERS = {"kl_sum": "most KL", "kl_max": "highest single token", "newest": "newest"}
OF_ONE_TEXT = dict.fromkeys(("sequence", "step", "at", "prompt", "response"), "")
"""Parameters of the address that are about one text and do not go to the next."""
ABOUT_CORPUS_TEXT = (
    "A text of the corpus, as one training step saw it: which of its tokens cost the policy "
    "anything, and where the oracle changes its mind. Nobody scored it; words that are toxic by "
    "themselves are blurred."
)
READING = "Reading the text under base, guided and tuned policy"
OPENING_AND_READING = "Opening the models, then reading the text under each of them"
UNSTORED = "No token values are stored for this text."
FEW_STORED = "Each round keeps those of a few rollouts (method.guidance_sequences)."


def pick(bench: Workbench, visit: Visit, *, is_marked: bool = True) -> Node:
    """The texts with stored guidance, those that pay most first; marked is the one shown."""
    run = chosen_run(bench, visit)
    if run is None:
        return no_run(bench, visit)
    order = visit.query.get("order", "kl_sum")
    order_by: Any = order if order in ORDERS else "kl_sum"

    def part(page: int) -> Answer:
        return sequences(bench.store, run.run_id, order_by=order_by,
                         part=Slice(PER_PAGE, page * PER_PAGE))  # fmt: skip

    found = asked_part(visit.query, PER_PAGE, part)
    current = current_sequence(bench, visit, run.run_id) if is_marked else ""
    items = [_item(visit, run.run_id, row, current) for row in found.records()]
    orders = choose(ORDERS.items(), order, "Order of texts", data_query="order",
                    data_clear=PART, **act("refresh"))  # fmt: skip
    heading = el("h2", words.count(found.total, "text"), " with token values")
    nothing = el("p.side", none_stored(run))
    return el("div", run_menu(bench, run, (PART, *OF_ONE_TEXT)), heading, sums(bench, run.run_id),
              el("p.side", "Order: ", orders),
              el("ul.pick", items) if items else nothing,
              pager("tokens", visit.query, found.total, PER_PAGE)
              if found.total > PER_PAGE else None)  # fmt: skip


def _item(visit: Visit, run_id: str, row: dict[str, Any], current: str) -> Node:
    sequence = str(row["sequence_id"])
    paid = words.number(row["kl_sum"])
    logged = known(row["kl_logged"])
    is_wrong = logged is not None and abs(row["kl_sum"] - logged) > TOLERANCE
    facts = f"Σ KL {paid} nats · round {row['round']} · {row['n_tokens']} tokens"
    # conversations all begin alike
    text = "…" + str(row["response"] or row["text"] or "")
    href = link("tokens", {**visit.query, **OF_ONE_TEXT}, run=run_id, sequence=sequence)
    return el(
        "li",
        el("a", el("span.line", _in_list(text, known(row["toxicity"]), row["prompt_text"])),
           el("span.sub", facts, " ", el("b.bad", "sum differs") if is_wrong else None),
           href=href,
           aria_current="true" if sequence == current else None),
    )  # fmt: skip


def _in_list(text: str, score: float | None, prompt: str | None) -> Node:
    """The text, blurred by its score, or by its words where it was not scored.

    Scores are of responses; a prompt before one that scores low is looked at by its words too.
    """
    if score is not None and score >= TOXIC_FROM:
        return veil(text, score, in_link=True)
    is_calm = score is not None and prompt is not None and not is_hot(prompt)
    return el("span.text", text) if is_calm else veil(text, None, in_link=True)


def toxicity(bench: Workbench, run_id: str, sequence_id: str) -> float | None:
    """Highest score of a rollout; None for a text that nobody scored, such as one of a corpus."""
    found = rollout(bench.store, run_id, sequence_id)
    return max(found["scores"].values(), default=None) if found else None


def settled(bench: Workbench, visit: Visit) -> Visit:
    """The visit with the run and the text that are shown where its address names none."""
    run = chosen_run(bench, visit)
    if run is None:
        return visit
    shown = {"run": run.run_id, "sequence": current_sequence(bench, visit, run.run_id)}
    return replace(visit, query={**visit.query, **{k: v for k, v in shown.items() if v}})


def page(bench: Workbench, visit: Visit) -> list[Any]:
    """Every part of the page: about the text, the list of texts, its tokens, the vocabulary."""
    visit = settled(bench, visit)
    return [about_text(bench, visit), pick(bench, visit), tokens(bench, visit),
            paying(bench, visit)]  # fmt: skip


def current_sequence(bench: Workbench, visit: Visit, run_id: str) -> str:
    """The text of the address, else the one that pays most."""
    wanted = visit.query.get("sequence", "")
    if wanted:
        return wanted
    first = sequences(bench.store, run_id, part=Slice(1)).records()
    return str(first[0]["sequence_id"]) if first else ""


def tokens(bench: Workbench, visit: Visit) -> dict[str, Any]:
    """The chosen text's values for the component."""
    run = chosen_run(bench, visit)
    if run is None:
        return {"empty": absent(visit)}
    sequence = current_sequence(bench, visit, run.run_id)
    if not sequence:
        return {"empty": none_stored(run)}
    step = visit.query.get("step", "")
    moments = sequence_versions(bench.store, run.run_id, sequence).records()
    if not moments:
        is_known = rollout(bench.store, run.run_id, sequence) is not None
        unstored = f"{UNSTORED} {never_stored(run) or FEW_STORED}"
        return {"empty": unstored if is_known else f"There is no text {sequence} in this run."}
    moment = next((m for m in moments if str(m["step"]) == step), moments[-1])
    rows = guidance(bench.store, run.run_id, sequence, shard_seq=moment["shard_seq"],
                    step=moment["step"]).records()  # fmt: skip
    return payload(rows, name=sequence, toxicity=toxicity(bench, run.run_id, sequence),
                   logged_kl=known(moment["kl_logged"]), has_address=True)  # fmt: skip


def known(value: Any) -> float | None:
    """A number of the database; None where it has none."""
    return None if value is None or math.isnan(value) else float(value)


def sums(bench: Workbench, run_id: str) -> Node | None:
    """Whether every stored text's KL is the one that the training pass logged."""
    found = sum_check(bench.store, run_id, TOLERANCE)
    n_logged, n_wrong = found["n_logged"], found["n_wrong"]
    if not n_logged:
        return None
    if n_wrong:
        return el(
            "span.chip.bad", f"{n_wrong:,} of {n_logged:,} sums differ from the training pass"
        )
    what = words.count(n_logged, "text")
    worst = f"largest difference {found['largest']:.1e} nats; at most {TOLERANCE:g} is allowed"
    return el("span.chip.good", f"Σ KL of {what} = training pass", title=worst)


def about_text(bench: Workbench, visit: Visit) -> Node:
    """What the text is, its scores, and the steps whose values are stored."""
    run = chosen_run(bench, visit)
    sequence = current_sequence(bench, visit, run.run_id) if run else ""
    if run is None or not sequence:
        return ""
    found = rollout(bench.store, run.run_id, sequence)
    lines: list[Node | None] = []
    if found is None:
        lines.append(el("p.side", ABOUT_CORPUS_TEXT))
    if found:
        scores = ", ".join(f"{name} {value:.2f}" for name, value in found["scores"].items())
        lines.append(el("p.side", f"Rollout {sequence} of round {found['round']}, "
                        f"{found['prompt_split']} prompt, policy version "
                        f"{found['policy_version']}. Scores: {scores or 'none'}."))  # fmt: skip
    policies = trained(bench, run)
    lines.append(other_version(visit, policies) if policies and policies.history.rounds else None)
    moments = sequence_versions(bench.store, run.run_id, sequence).records()
    lines.append(_other_step(visit, moments))
    if len(moments) > 1:
        lines.append(_scrubber(visit, moments))
    if found or has_first_token(bench.store, run.run_id, sequence):
        lines.append(offer(bench, visit, run))
    here = settle(run=run.run_id, sequence=sequence)
    return el("div", el("h2", "The chosen text"), lines, **here)


def _other_step(visit: Visit, moments: list[dict[str, Any]]) -> Node | None:
    """That no values are stored of the step in the address, and whose are shown instead."""
    asked, there = visit.query.get("step", ""), [str(m["step"]) for m in moments]
    if not asked or not there or asked in there:
        return None
    return el("div.notice.warn", f"No values of this text are stored for step {asked[:40]!r} "
              f"(only for {', '.join(there)}); the newest are shown.", role="alert")  # fmt: skip


def _scrubber(visit: Visit, moments: list[dict[str, Any]]) -> Node:
    chosen = visit.query.get("step", str(moments[-1]["step"]))
    pairs = [
        (str(m["step"]),
         f"round {m['round']}, step {m['step']}, policy version {m['policy_version']}")
        for m in moments
    ]  # fmt: skip
    menu = choose(pairs, chosen, "Checkpoint", data_query="step", **act("refresh"))
    return el("p.side", "Values of ", menu)


def shown_text(bench: Workbench, visit: Visit) -> Request:
    """The request for the text on the page, which its own run keeps though another may score it.

    Raises:
        RunError: There is no run.
        ConfigError: There is no such text, or its first token was not stored.
    """
    run = chosen_run(bench, visit)
    if run is None:
        raise RunError(absent(visit))
    return of_stored(bench, run, current_sequence(bench, visit, run.run_id))


def computed(
    bench: Workbench,
    visit: Visit,
    last: Request,
    work: Callable[[Run], tuple[dict[str, Any], Request]],
) -> Iterator[list[Any]]:
    """What is done and for how long, then heading, values and the request that they answer.

    A refusal stands above the heading of what was shown before, which was ``last``'s answer if any.
    """
    run = policies_of(bench, chosen_run(bench, visit))
    what = READING if bench.model_process.has_opened(run.run_id) else OPENING_AND_READING
    yield [underway(what, "halt"), *[gr.skip()] * 3]
    try:
        value, asked = work(run)
    except AcftError as error:
        yield [el("div", notice(error), _about_shown(bench, visit, run, last)),
               *[gr.skip()] * 3]  # fmt: skip
        return
    texts = pick(bench, visit, is_marked=asked["is_stored"])
    yield [about_computed(visit, run, asked), value, asked, texts]


def _about_shown(bench: Workbench, visit: Visit, run: Run, last: Request) -> Node:
    """What stands above the values on the page, which the last request or the store gave."""
    if not last:
        return about_text(bench, settled(bench, visit))
    version = str(last["weights"]["tuned"]["version"])
    return about_computed(replace(visit, query={**visit.query, "live_version": version}), run, last)


def typed(visit: Visit) -> list[Any]:
    """The text of the address, for the boxes of prompt and response."""
    # Whoever types before the page has answered keeps what is typed.
    return [visit.query.get(name) or gr.skip() for name in ("prompt", "response")]


def _build(bench: Workbench, wire: Wire) -> None:
    view(title("Tokens", "Which tokens pay for the constraint."))
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            left = view(acts=("refresh", "look"))
        with gr.Column(scale=3, min_width=340):
            about = view(acts=("refresh", "compute", "again", "halt"))
            queue = view()
            shown = token_view()
            with gr.Column(visible=is_possible(bench)):
                view(el("h2.part", "Score a text of your own"))
                with gr.Row():
                    prompt = gr.Textbox(label="Prompt", lines=2)
                    response = gr.Textbox(label="Response", lines=2)
                go = gr.Button("Score", size="sm", elem_classes="narrow")
    vocabulary, request = view(acts=("refresh",)), gr.State({})
    live = [about, shown, request, left]

    def show(visit: Visit) -> list[Any]:
        return page(bench, visit)

    def compute(visit: Visit, last: Request) -> Iterator[list[Any]]:
        yield from computed(bench, visit, last, lambda run: scored(
            bench, visit, run, shown_text(bench, visit)))  # fmt: skip

    def own(visit: Visit, first: str, second: str, last: Request) -> Iterator[list[Any]]:
        yield from computed(bench, visit, last, lambda run: scored(
            bench, visit, run, of_text(run, first, second)))  # fmt: skip

    def again(visit: Visit, last: Request) -> Iterator[list[Any]]:
        yield from computed(bench, visit, last, lambda run: scored(bench, visit, run, last))

    def branch(visit: Visit, last: Request) -> Iterator[list[Any]]:
        yield from computed(bench, visit, last, lambda run: branched(bench, visit, run, last))

    def halted(visit: Visit) -> list[Any]:
        visit = settled(bench, visit)
        return [about_text(bench, visit), tokens(bench, visit), {}, pick(bench, visit)]

    def texts(visit: Visit, last: Request) -> Node:
        return pick(bench, settled(bench, visit), is_marked=last.get("is_stored", True))

    outputs = [about, left, shown, vocabulary]
    wire.on_load(show, outputs=outputs)
    follow_state(bench, wire, left, chosen_run, texts, inputs=[request])
    wire.on_load(typed, outputs=[prompt, response])
    wire.read(about.refresh, show, outputs=outputs, trigger_mode="always_last")
    wire.read(left.refresh, texts, inputs=[request], outputs=[left], trigger_mode="always_last")
    wire.read(vocabulary.refresh, lambda visit: paying(bench, visit), outputs=[vocabulary],
              trigger_mode="always_last")  # fmt: skip
    waiting = [underway(WAITING, "halt"), *[gr.skip()] * 3]
    filled: dict[str, Any] = {"outputs": live, "waiting": waiting, "line": wire.line(queue, about)}
    running = [
        wire.stream(about.compute, compute, inputs=[request], **filled),
        wire.stream(about.again, again, inputs=[request], **filled),
        wire.stream(shown.branch, branch, inputs=[request], **filled),
        wire.stream(go.click, own, inputs=[prompt, response, request], **filled),
    ]
    wire.cancel(about.halt, running)
    wire.read(about.halt, halted, outputs=live)


PAGES.add("tokens")(Page("Tokens", "tokens", 40, _build))
