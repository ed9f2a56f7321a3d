"""Who answered, and under which conditions: from what the runs recorded, never from labels."""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from acft.schema import policy_sha256
from acft.ui.reading.pairs import Subject
from acft.ui.reading.reader import Run, table_of
from acft.ui.web.dom import Node, el, unbroken

HASH_LETTERS = 12
UNKNOWN = "not recorded"
HOW = ("horizon", "temperature", "top_p")
"""Of drawing: fields of ``Drawing`` beside its prompts."""


@dataclass(frozen=True)
class Drawing:
    """How responses to one set of prompts are drawn."""

    prompts: str
    horizon: str
    temperature: str
    top_p: str


def drawings(run: Run) -> list[Drawing]:
    """How the run draws the responses that are compared, once for each different way, sorted."""
    return sorted(in_turn(run), key=astuple)


def in_turn(run: Run) -> list[Drawing]:
    """The same in the order in which it draws them."""
    settings = run.settings
    own = str(table_of(settings, "prompts").get("source", UNKNOWN))
    if run.status.kind == "training":
        horizon = table_of(settings, "sampling").get("horizon", "?")
        top_p = table_of(settings, "evaluation").get("top_p", "?")
        # The final evaluation leaves the temperature of the training's rollouts aside.
        return [Drawing(own, f"{horizon} tokens", "1", str(top_p))]
    found = [
        Drawing(
            str(c.get("source") or own), f"{c.get('horizon', '?')} tokens",
            _short(c.get("temperature", "?")), _top_p(c),
        )
        for c in _tables(table_of(run.facts, "drawings").values())
    ]  # fmt: skip
    return list(dict.fromkeys(found))


def _tables(found: Any) -> list[dict[str, Any]]:
    """The tables among recorded values, which a damaged record may hold others in place of."""
    return [item for item in found if isinstance(item, dict)] if isinstance(found, Iterable) else []


def _top_p(drawn: dict[str, Any]) -> str:
    """The nucleus, and those of policies whose decoders leave tokens out by themselves."""
    others = table_of(drawn, "top_p_of").items()
    shown = [str(drawn.get("top_p", "?")), *(f"{_short(p)} of {name}" for name, p in others)]
    return ", ".join(shown)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def conditions(run: Run, beside: Run | None = None) -> dict[str, str]:
    """What both sides of a comparison must share, by name.

    Args:
        run: Whose responses are meant.
        beside: The run it is compared with; prompts and scorers that only one of them has are
            left out.
    """
    settings = run.settings
    model, drawn = table_of(settings, "model"), drawings(run)
    others = {drawing.prompts for drawing in drawings(beside)} if beside else set()
    drawn = [drawing for drawing in drawn if drawing.prompts in others] or drawn
    return {
        "model": str(model.get("name", UNKNOWN)),
        "revision": str(model.get("revision") or "none named"),
        "chat template": "yes" if model.get("chat_template") else "no",
        "prompts": ", ".join(dict.fromkeys(d.prompts for d in drawn)) or UNKNOWN,
        **{name.replace("_", "-"): _of_each(drawn, name) for name in HOW},
        "seed": _seed(run),
        "dtype": str(settings.get("dtype", "?")),
        "scorers": _judged_by(_scorers(run), _scorers(beside or run)),
    }


def _scorers(run: Run) -> dict[str, str]:
    """Versions and the beginnings of hashes of a run's scorers, by name."""
    return {
        str(scorer.get("name", "?")): " ".join(
            filter(None, [str(scorer.get("version", "")), str(scorer.get("sha256", ""))[:8]])
        )
        for scorer in _tables(run.facts.get("scorers"))
    }


def _judged_by(own: dict[str, str], others: dict[str, str]) -> str:
    """The scorers that both have; what either did not record is no difference."""
    if not own or not others:
        return UNKNOWN
    shared = {name: said for name, said in own.items() if name in others} or own
    return ", ".join(f"{name} {shared[name]}".rstrip() for name in sorted(shared))


def _of_each(drawn: Sequence[Drawing], name: str) -> str:
    """One value where all ways of drawing share it, else one for each with its prompts."""
    values = [str(getattr(drawing, name)) for drawing in drawn]
    if len({*values}) <= 1:
        return values[0] if values else "?"
    return ", ".join(f"{v} ({d.prompts})" for v, d in zip(values, drawn, strict=True))


def _seed(run: Run) -> str:
    """The seed of the responses; evaluations have one of their own, and derive others from it."""
    if run.status.kind == "training":
        return str(run.settings.get("seed", "?"))
    return f"{table_of(run.settings, 'method').get('seed', '?')}, of the evaluation"


def same_conditions(first: Run, second: Run) -> bool:
    """Whether two runs answered under equal conditions."""
    return conditions(first, second) == conditions(second, first)


def identity(run: Run, subject: Subject) -> Node:
    """A badge with the weights that answered, what was trained of them, and where they did."""
    kind = "base" if subject.label == "base" else "tuned"
    kind = "guided" if subject.subject == "guided" else kind
    digest = weight_hash(run, subject)
    shown = f"sha256 {digest[:HASH_LETTERS]}…" if digest else "weight hash not recorded"
    return el("span.identity", el(f"span.chip.{kind}", subject.label), " ",
              el("code", shown, title=digest or None), " ",
              el("span.side", unbroken(_about(run, kind))), " ")  # fmt: skip


def _about(run: Run, kind: str) -> list[str]:
    """Revision of the model, what was trained where that is known, and the device."""
    adapter = table_of(run.settings, "adapter")
    found = (
        [f"revision {named}"] if (named := table_of(run.settings, "model").get("revision")) else []
    )
    if kind != "base" and run.status.kind == "training" and adapter:
        is_full = adapter.get("kind") == "full"
        found.append("every weight" if is_full else f"adapter of rank {adapter.get('rank', '?')}")
    return [*found, *([f"on {run.status.device}"] if run.status.device else [])]


def weight_hash(run: Run, subject: Subject) -> str:
    """SHA-256 of the weights behind a subject, empty where the run did not record it."""
    if subject.label == "base":
        found = table_of(run.facts, "model").get("sha256") or run.facts.get("model_sha256") or ""
        return str(found)
    for measured in _tables(run.facts.get("policies")):  # of an evaluation
        if measured.get("name") == subject.subject:
            return str(measured.get("sha256", ""))
    sealed = [r for r in run.history.rounds if r.policy_version == subject.version]
    return policy_sha256(run.paths.root / sealed[-1].checkpoint) if sealed else ""
