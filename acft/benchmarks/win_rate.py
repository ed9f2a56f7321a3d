"""Which of two policies' responses another language model finds likelier, pair by pair."""

from collections.abc import Generator, Mapping

import numpy as np

from acft.benchmarks.base import SUITES, Bench, Measured, Suite, SuiteOutput
from acft.benchmarks.fluency import judge_responses, work
from acft.benchmarks.responses import DrawSettings, as_set, read_prompts
from acft.evaluation import Label, event_of
from acft.events import Evaluated
from acft.totals import Totals, interval

NAME = "win_rate"
JUDGED = "nats_by_response"
TIE_NATS = 0.01
"""Responses this close, in nats a token, are tied; equal texts always are."""


def run(settings: DrawSettings, bench: Bench) -> Generator[SuiteOutput, None, Measured]:
    """Share of responses that the judge model finds likelier than the base policy's, ties half.

    Both are the response of the same number to the same prompt; an empty one loses against any
    other, and two tie. Source: arXiv:2410.05559, win rates under a judge's likelihood.
    """
    rollouts, rows = yield from judge_responses(settings, bench)
    found = {row.text_id: (row.nll, float(row.n_tokens)) for row in rows}
    names = tuple(rollout.rollout_id for rollout in rollouts)
    columns = np.array([found.get(name, (0.0, 0.0)) for name in names]).reshape(-1, 2)
    return {JUDGED: Totals(names, columns[:, 0], columns[:, 1])}


def win_totals(base: Totals, policy: Totals) -> dict[str, Totals]:
    """Wins with half the ties, wins, ties and losses of the policy, by prompt."""
    drawn = {*policy.groups}
    shared = [response for response in base.groups if response in drawn]
    with np.errstate(invalid="ignore"):  # two empty ones: no number, so neither win nor loss
        gain = _nats_per_token(base, shared) - _nats_per_token(policy, shared)
    wins, losses = gain > TIE_NATS, gain < -TIE_NATS
    ties = ~(wins | losses)
    prompts = [*map(prompt_of, shared)]
    outcomes = {
        "win_rate": wins + ties / 2,
        "win_share": wins,
        "tie_share": ties,
        "loss_share": losses,
    }
    return {name: Totals.of_rows(prompts, o) for name, o in outcomes.items()}


def prompt_of(response_id: str) -> str:
    """Id of the prompt that a response answers."""
    return response_id.rpartition("-")[0]


def compare(
    base: Mapping[str, Totals],
    policy: Mapping[str, Totals],
    label: Label,
    control: Mapping[str, Totals] | None = None,
    /,
) -> list[Evaluated]:
    """Win rate over base and, where there is one, over the control."""
    events = []
    opponents = {"base": base} | ({"control": control} if control is not None else {})
    for opponent, measured in opponents.items():
        for name, totals in win_totals(measured[JUDGED], policy[JUDGED]).items():
            events.append(event_of(f"{name}/{opponent}", interval(totals, label.seed), label))
    return events


def _nats_per_token(totals: Totals, responses: list[str]) -> np.ndarray:
    """Nats per token of each response; infinite for an empty one, than which all are likelier."""
    chosen = totals.select(responses)
    infinite = np.full(len(responses), np.inf)
    return np.divide(chosen.sums, chosen.counts, out=infinite, where=chosen.counts > 0)


SUITES.add(NAME)(
    Suite(
        DrawSettings,
        run,
        report=lambda _measured, _label: [],
        compare=compare,
        needs_judge=True,
        drawing=as_set,
        work=work,
        reads=read_prompts,
        asks_scorers=lambda _: True,
        independent=prompt_of,
    )
)
