"""What a constraint should have left alone: harmless texts about groups, and harmless prompts.

How high scorers score the texts themselves says nothing of the policy, but of how far to believe
the scorers: texts that mention groups of people are as harmless as the others.
"""

from collections.abc import Generator, Mapping, Sequence

from acft.benchmarks.base import (
    NO_LIKELIHOODS,
    READ,
    SUITES,
    Bench,
    Measured,
    Suite,
    SuiteOutput,
    Work,
)
from acft.benchmarks.perplexity import likelihoods
from acft.benchmarks.responses import DrawSettings, draw_responses, drawn, read_prompts
from acft.config import Config
from acft.evaluation import Label, evaluated, event_of, measure, score_columns
from acft.events import Evaluated, Note
from acft.likelihood import perplexity_totals
from acft.schema import TOXIC_FROM
from acft.settings import Positive, RunSettings
from acft.totals import Totals, category_name, ratio_difference, unpaired_bootstrap
from acft.types import Document, Prompt

EVERYDAY, GROUPS = "everyday", "groups"
"""Categories of harmless texts whose scores are compared."""
TEXT_TOXICITY, TEXT_TOXIC_SHARE = "text_toxicity", "text_toxic_share"
"""Quantities of the texts themselves."""


class CollateralSettings(Config):
    """Which harmless texts are judged."""

    source: str = "neutral"
    """Prompt set of harmless beginnings, with categories."""
    continuations: Positive = 5
    """Continuations of each prompt."""
    horizon: Positive = 20
    """Longest continuation, in tokens."""

    def drawing(self) -> DrawSettings:
        """How continuations are drawn."""
        return DrawSettings(
            source=self.source, continuations=self.continuations, horizon=self.horizon
        )


def run(settings: CollateralSettings, bench: Bench) -> Generator[SuiteOutput, None, Measured]:
    """Likelihood and scores of harmless texts by category; answers empty, short or refused."""
    prompts, scored = yield from draw_responses(settings.drawing(), bench)
    measured = measure(scored, [scorer.name for scorer in bench.scorers])
    measured |= _texts_themselves(prompts, bench)
    if bench.reader is None:
        yield Note("info", f"no perplexity for {bench.subject}: {NO_LIKELIHOODS}", bench.round)
        return measured
    documents = [Document(p.prompt_id, "", p.text, "general") for p in prompts]
    rows = yield from likelihoods(bench.reader, documents, bench.reader.context_length, bench)
    category_of = {prompt.prompt_id: prompt.category for prompt in prompts}
    for category in sorted(set(category_of.values())):
        chosen = [row for row in rows if category_of[row.text_id] == category]
        name = "/".join(filter(None, ["perplexity", category]))
        measured[name] = perplexity_totals(chosen)
    return measured


def _texts_themselves(prompts: Sequence[Prompt], bench: Bench) -> Measured:
    """Mean score and share of toxic verdicts of each category of texts; equal for all policies."""
    columns = score_columns([prompt.text for prompt in prompts], bench.scorers, bench.failed)
    found: Measured = {}
    for scorer, scores in columns.items():
        for category in sorted({prompt.category for prompt in prompts} - {""}):
            rows = [i for i, prompt in enumerate(prompts) if prompt.category == category]
            names = [prompts[i].prompt_id for i in rows]
            of_texts = {
                TEXT_TOXICITY: [scores[i] for i in rows],
                TEXT_TOXIC_SHARE: [scores[i] >= TOXIC_FROM for i in rows],
            }
            for quantity, values in of_texts.items():
                found[category_name(quantity, category, scorer)] = Totals.of_rows(names, values)
    return found


def report(measured: Mapping[str, Totals], label: Label, /) -> list[Evaluated]:
    """One event for each measurement, and ``group_bias`` of each scorer.

    That is the mean score of texts about groups minus that of everyday ones, with its interval over
    texts of both kinds.
    """
    events = evaluated(measured, label)
    of_groups = category_name(TEXT_TOXICITY, GROUPS, "")
    for scorer in [n.removeprefix(of_groups) for n in measured if n.startswith(of_groups)]:
        names = [category_name(TEXT_TOXICITY, kind, scorer) for kind in (EVERYDAY, GROUPS)]
        if all(name in measured for name in names):
            sides = [measured[name] for name in names]
            estimate = unpaired_bootstrap(sides, ratio_difference, seed=label.seed)
            events.append(event_of(f"group_bias/{scorer}", estimate, label))
    return events


def work(settings: CollateralSettings, run: RunSettings) -> Work:
    """Responses to be drawn, and the prompts themselves to be read."""
    responses = drawn(settings.drawing(), run)
    n_prompts = sum(responses.values()) // settings.continuations
    return responses | {(READ, settings.model_dump_json()): n_prompts}


SUITES.add("collateral")(
    Suite(
        CollateralSettings,
        run,
        report=report,
        drawing=CollateralSettings.drawing,
        work=work,
        reads=read_prompts,
        asks_scorers=lambda _: True,
    )
)
