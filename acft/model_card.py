"""README.md of an exported model: what it is, how it was made, what was measured, what was not."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from acft.assets import PACKAGED_MODELS
from acft.backbone.loading import Backbone
from acft.events import CHANGE, COMPARISONS, Evaluated
from acft.statistics import brackets

LIBRARIES = {"merged": "transformers", "adapter": "peft"}

USE_MERGED = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(FOLDER)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
```"""

USE_ADAPTER = """```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained({base})
model = PeftModel.from_pretrained(base, FOLDER)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
```"""

USE_ORACLE = """The folder `oracle/` holds the run's oracle. With `acft` installed it guides the
model further while it writes:

```python
from acft.decoding.processor import OracleLogitsProcessor

tokenizer.padding_side = "left"
{load}
inputs = tokenizer(["My neighbour is"], return_tensors="pt", padding=True)
model.generate(**inputs, do_sample=True, max_new_tokens=20, logits_processor=[guide])
```"""

LOAD_ORACLE = 'guide = OracleLogitsProcessor.load(FOLDER + "/oracle", model, tokenizer)'

LOAD_ORACLE_ON_BASE = """# the oracle reads by the base model, which has to be the very same
base = AutoModelForCausalLM.from_pretrained({base})
guide = OracleLogitsProcessor.load(FOLDER + "/oracle", model, tokenizer, base=base)"""

USE_CONTROL = """The model was taught to answer behind a control text, so every prompt has to begin
with it, or the numbers below do not hold:

```python
prompt = {control} + prompt
```"""

LIMITS = (
    "Satisfaction of the constraint became more likely, not certain. Other prompts, longer "
    "responses and other languages than those measured may do worse.",
    "What counts as toxic is what the named scorers call so. They are small models with known "
    "bias: texts that only mention groups of people are scored too high. By how much is the row "
    "`group_bias` of a scorer, which acft's suite `collateral` measures.",
    "Numbers of different scorers, prompts or sampling settings cannot be compared.",
    "Whatever the base model gets wrong, this model gets wrong as well.",
)


@dataclass(frozen=True)
class Base:
    """The model a run started from, as the card may name it."""

    name: str
    hub_id: str = ""
    licence: str = ""
    note: str = ""

    @classmethod
    def of(cls, backbone: Backbone) -> "Base":
        """Of an opened model; a local folder is named without its place."""
        name = backbone.name
        if backbone.source == "packaged" and name in PACKAGED_MODELS:
            packaged = PACKAGED_MODELS[name]
            note = f"the weights of {packaged.upstream} after quantisation, from {packaged.package}"
            return cls(name, packaged.upstream, packaged.licence, note)
        if backbone.source == "hub":
            return cls(name, name)
        return cls(without_folder(name), note="a local folder")


@dataclass(frozen=True)
class CardFacts:
    """What a card tells."""

    title: str
    form: str
    """merged or adapter."""
    base: Base
    has_oracle: bool
    made: Mapping[str, str]
    """Settings and provenance in words."""
    measured: Sequence[Evaluated]
    """Of this checkpoint and of the base."""
    drawn: Mapping[str, Mapping[str, Any]]
    """``horizon``, ``temperature`` and ``top_p`` of the measured responses, by suite."""
    needs_base: bool = False
    """Its oracle reads by the base model, which the folder's weights do not contain."""
    control: str = ""
    """Text that the policy was taught to answer behind."""
    is_guided: bool = False
    """The constraint is kept by the oracle's guidance alone, not by the weights."""
    other_method: str = ""
    """Name and summary of a method other than ACFT, which may know of no constraint."""


def model_card(facts: CardFacts) -> str:
    """The whole card as Markdown."""
    return "\n\n".join(["\n".join(_front_matter(facts)), *_sections(facts)]) + "\n"


def _front_matter(facts: CardFacts) -> Iterator[str]:
    yield "---"
    yield f"library_name: {LIBRARIES[facts.form]}"
    yield "pipeline_tag: text-generation"
    if facts.base.hub_id:
        yield f"base_model: {json.dumps(facts.base.hub_id)}"
        yield f"base_model_relation: {'finetune' if facts.form == 'merged' else 'adapter'}"
    if facts.base.licence:
        yield f"license: {facts.base.licence}"
    yield "tags: [acft, attribute-controlled-fine-tuning]"
    yield "---"


def _sections(facts: CardFacts) -> Iterator[str]:
    base = facts.base
    yield f"# {_plain(facts.title)}"
    yield _opening(facts, f"{_plain(base.name)}{f' ({base.note})' if base.note else ''}")
    yield "## Use"
    yield (
        USE_MERGED
        if facts.form == "merged"
        else USE_ADAPTER.format(base=json.dumps(base.hub_id or "FOLDER_OF_THE_BASE_MODEL"))
    )
    if facts.control:
        yield USE_CONTROL.format(control=json.dumps(facts.control))
    if facts.has_oracle:
        yield _use_oracle(facts)
    yield "## How it was made"
    yield _table(("setting", "value"), facts.made.items())
    yield "## Measured"
    yield _measured(facts.measured, facts.drawn)
    yield "## Limits"
    yield "\n".join(f"- {limit}" for limit in LIMITS)
    yield "## Licence"
    yield (
        f"The base model is licensed under {base.licence}; that licence holds for these weights."
        if base.licence
        else "The base model's licence holds for these weights; the run did not record which it is."
    )


def _opening(facts: CardFacts, base: str) -> str:
    """What the model is, without a claim that only another method would make."""
    constraint = _plain(facts.made["constraint"])
    if not facts.other_method:
        return (
            f"{base}, fine-tuned so that its responses satisfy: {constraint}. Made with "
            "attribute-controlled fine-tuning "
            "([arXiv:2410.05559](https://arxiv.org/abs/2410.05559)) by acft."
        )
    text = (
        f"{base}, as acft's method {facts.other_method} left it. The constraint of its run: "
        f"{constraint}."
    )
    if not facts.is_guided:
        return text
    where = "is in `oracle/`" if facts.has_oracle else "this folder lacks"
    return (
        f"{text} The weights alone do not keep to it; an oracle has to guide them, which {where}."
    )


def _use_oracle(facts: CardFacts) -> str:
    base = facts.base
    # packaged weights are those of the hub up to rounding only
    place = json.dumps("FOLDER_OF_THE_BASE_MODEL" if base.note else base.hub_id)
    load = LOAD_ORACLE_ON_BASE.format(base=place) if facts.needs_base else LOAD_ORACLE
    return USE_ORACLE.format(load=load)


def _measured(events: Sequence[Evaluated], drawn: Mapping[str, Mapping[str, Any]]) -> str:
    """Base and tuned values side by side, with the paired change where one was measured."""
    rows = list(_rows({(e.suite, e.metric, e.subject): e for e in events if "@" not in e.metric}))
    if not rows:
        return "Nothing was measured on this checkpoint."
    head = ("suite", "metric", "base", "tuned", "change", "prompts or texts")
    how = "".join(
        f" Responses of {name}: at most {of['horizon']} tokens, temperature "
        f"{of['temperature']:g}, top-p {of['top_p']:g}."
        for name, of in drawn.items()
    )
    return _table(head, rows) + (
        f"\n\n[low, high] are 95 % intervals; the change is relative to the base and paired.{how}"
    )


def _rows(events: Mapping[tuple[str, str, str], Evaluated]) -> Iterator[tuple[str, ...]]:
    for (suite, metric, subject), event in events.items():
        if subject != "policy" or metric.endswith(COMPARISONS):
            continue
        base = events.get((suite, metric, "base"))
        change = events.get((suite, metric + CHANGE, "policy"))
        yield _suite(suite), metric, _number(base), _number(event), _percent(change), str(event.n)


def _suite(name: str) -> str:
    kind, slash, subject = name.partition("/")
    return kind + slash + without_folder(subject)


def without_folder(source: str) -> str:
    """A source's name without the place it lies in, which is nobody else's business."""
    return source if source.startswith("hub:") else source.rstrip("/").rpartition("/")[2]


def _number(event: Evaluated | None) -> str:
    if event is None or event.value is None:
        return "–"
    return f"{event.value:.3g}" + _interval(event, ".3g", 1.0)


def _percent(event: Evaluated | None) -> str:
    if event is None or event.value is None:
        return "–"
    return f"{100 * event.value:+.1f} %" + _interval(event, "+.1f", 100.0)


def _interval(event: Evaluated, form: str, scale: float) -> str:
    return f" {brackets(event.low, event.high, lambda end: f'{scale * end:{form}}')}".rstrip()


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_plain(str(cell)) for cell in line) + " |" for line in lines)


def _plain(text: str) -> str:
    """On one line, with nothing that ends a table's cell or opens a tag."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
