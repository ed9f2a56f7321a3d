"""What a run would read and need, as the launch page shows it."""

from typing import Any

from acft.ui import words
from acft.ui.dom import Node, act, el, table
from acft.ui.page import Visit

LEGEND = (
    "Plain tokens are learned by cross-entropy, underlined ones also carry the KL, faint ones are "
    "only read."
)


def button(visit: Visit) -> Node:
    """The control that asks for it; it reads files that the settings name."""
    return el(
        "div.actions",
        el("button.do", "Look at the data first", type="button", disabled=not visit.may_change,
           **act("preflight")),
        el("span.side", "opens model and texts in another process, changes nothing"),
    )  # fmt: skip


def shown(found: dict[str, Any]) -> Node:
    """Problems, or prompts, corpora with samples, and what the run will need."""
    if found["problems"]:
        items = [el("li", problem) for problem in found["problems"]]
        return el("div.notice.bad", el("b", "The run could not start."), el("ul", items))
    prompts = ", ".join(f"{n:,} {split}" for split, n in found["prompts"].items())
    rows = [_row(corpus) for corpus in found["corpora"]]
    return el(
        "section",
        el("h2", "What it will read"),
        el("p.side", f"Prompts: {prompts}. ", _need(found)),
        table(["Corpus", "Domain", "Documents", "Too short", "Cut"], rows, caption="Corpora",
              numeric={2, 3, 4}),
        [_samples(corpus) for corpus in found["corpora"] if corpus.get("samples")],
    )  # fmt: skip


def _row(corpus: dict[str, Any]) -> list[Node]:
    if "note" in corpus:
        return [el("code", corpus["source"]), corpus["domain"], el("span.side", corpus["note"]),
                words.DASH, words.DASH]  # fmt: skip
    sizes = " / ".join(f"{n:,}" for n in corpus["documents"].values())
    of = f" of {corpus['n_looked_at']:,}"
    return [el("code", corpus["source"]), corpus["domain"], sizes,
            f"{corpus['n_dropped']:,}{of}", f"{corpus['n_cut']:,}{of}"]  # fmt: skip


def _need(found: dict[str, Any]) -> str:
    free = f"{words.size(found['free_bytes'])} of disk are free"
    expected = found["expected"]
    if expected is None:
        return f"No finished run resembles this one, so its time is not known; {free}."
    return (
        f"Like {words.count(len(expected['runs']), 'earlier run')}: about "
        f"{words.duration(expected['seconds'])} and {words.size(expected['bytes'])}; {free}."
    )


def _samples(corpus: dict[str, Any]) -> Node:
    texts = [el("p.sample", [_token(token) for token in sample]) for sample in corpus["samples"]]
    return el(
        "details",
        el("summary", f"{corpus['source']}: what the loss sees of {len(texts)} texts"),
        el("p.side", LEGEND, " Texts of a corpus may be offensive."),
        texts,
    )


def _token(token: dict[str, Any]) -> Node:
    kind = "kl" if token["in_kl"] else "ce" if token["in_ce"] else "read"
    return el(f"span.seen.{kind}", str(token["text"]))
