"""What a run has trained, for notebooks: its base, tuned and guided policy answer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from acft.backbone.loading import resolve_device
from acft.checkpoints import verify
from acft.data import prompt_of
from acft.errors import ConfigError, RunError
from acft.inference import texts
from acft.inference.opened import OpenedRun
from acft.inference.opened import open_run as opened_run
from acft.inference.server import Session
from acft.runs.restore import sealed_round
from acft.schema import RunPaths
from acft.settings import SamplingSettings

Subject = Literal["base", "tuned", "guided"]


class TrainedRun:
    """A run at one sealed round; its models are loaded when they are first asked for."""

    def __init__(self, paths: RunPaths, checkpoint: int | None, device: str) -> None:
        self._paths = paths
        self._sealed = sealed_round(paths, checkpoint)
        verify(paths.root / self._sealed.checkpoint)
        self._session = Session(resolve_device(device))

    def __repr__(self) -> str:
        return f"<run {self._paths.root.name} after round {self.round}>"

    @property
    def round(self) -> int:
        """The sealed round whose policy and oracle answer."""
        return self._sealed.round

    def sample(
        self,
        prompts: str | Sequence[str],
        n: int = 1,
        subject: Subject = "tuned",
        *,
        seed: int = 0,
        **sampling: Any,
    ) -> pd.DataFrame:
        """``n`` responses to each prompt with their grades: a row each, in the order of prompts.

        ``logprob`` is in nats, of what was drawn from before any top-p; ``satisfaction`` is the
        grade of the run's constraint, other columns are what its scorers give, all in [0, 1].

        Args:
            prompts: Texts to continue.
            n: Responses to each.
            subject: Who answers; ``guided`` is the tuned policy under the run's oracle.
            seed: The same seed and prompt give every subject the same random numbers.
            sampling: ``horizon``, ``temperature``, ``top_p`` or ``batch_size``; by default those
                that the run's own report was drawn with.

        Raises:
            ConfigError: No such subject, or a sampling setting is wrong.
            DataError: A prompt is empty or too long.
            ModelError: The run trained no oracle that could guide.
        """
        if subject not in get_args(Subject):
            known = ", ".join(get_args(Subject))
            raise ConfigError(f"subject = {subject!r}: nobody answers so (allowed: {known})")
        opened, asked = self._opened, [prompts] if isinstance(prompts, str) else prompts
        policy = opened.policy(0 if subject == "base" else self._sealed.policy_version)
        decoder = opened.decoder(self.round, policy) if subject == "guided" else None
        own = {"horizon": opened.run.sampling.horizon, "top_p": opened.run.evaluation.top_p}
        how = SamplingSettings.parse({**own, **sampling}, "sampling")
        items = [prompt_of(text) for text in asked]
        drawn = policy.sample(items, n, how, seed, decoder=decoder).rollouts
        columns = {
            "prompt": [rollout.prompt_text for rollout in drawn],
            "response": [rollout.response_text for rollout in drawn],
        }
        grades = opened.constraint.score(*columns.values())
        return pd.DataFrame({
            **columns,
            "logprob": [sum(rollout.response_logprobs) for rollout in drawn],
            "satisfaction": grades,
            **opened.scores(columns["response"]),
        })  # fmt: skip

    def token_values(self, prompt: str, response: str) -> pd.DataFrame:
        """What each token of a text is worth to base, tuned and guided policy: a row a token.

        The columns of the guidance table, log-probabilities and KLs in nats; ``alternatives`` are
        the likeliest tokens in its place.

        Raises:
            DataError: The text is empty or too long.
        """
        found = texts.score(self._session, *self._place, self.round, prompt, response)
        table = pd.DataFrame(found["rows"])
        table["alternatives"] = table["alternatives"].map(json.loads)
        return table

    @property
    def _place(self) -> tuple[str, str]:
        """Folder of runs, and the run's id."""
        return str(self._paths.root.parent), self._paths.root.name

    @property
    def _opened(self) -> OpenedRun:
        return opened_run(self._session, *self._place)  # which keeps it


def open_run(path: str | Path, checkpoint: int | None = None, device: str = "auto") -> TrainedRun:
    """The run whose folder this is, ready to answer.

    Args:
        path: The run's folder, such as ``runs/ID``.
        checkpoint: Round; by default the one that validation prefers, else the last.
        device: cpu, cuda or mps; ``auto`` takes a GPU where there is one.

    Raises:
        RunError: There is no such run, or it has no such round.
        DataError: A file of the round is missing or altered.
        ModelError: The device is not there.
    """
    paths = RunPaths(Path(path).resolve())
    if not paths.spec.is_file():
        raise RunError(f"{str(path)!r} is no run's folder; ``acft runs`` lists runs by their ids")
    return TrainedRun(paths, checkpoint, device)
