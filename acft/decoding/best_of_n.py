"""Several candidates for each response; the one that satisfies the constraint best is kept."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from acft.config import Config
from acft.decoding.base import DECODERS, DecoderContext, DecoderKind, Sampler
from acft.errors import ConfigError
from acft.oracle.base import Verdicts
from acft.policy import Policy
from acft.sampling import Samples
from acft.settings import Positive, SamplingSettings
from acft.types import Prompt, Rollout


class BestOfNSettings(Config):
    """How many candidates there are."""

    candidates: Positive = 8
    """Responses drawn for each one that is kept."""


@dataclass(frozen=True)
class BestOfN:
    """A policy that draws more than it shows."""

    policy: Policy
    verdicts: Verdicts
    candidates: int

    @property
    def version(self) -> int:
        """Finished policy updates."""
        return self.policy.version

    def sample(
        self, prompts: Sequence[Prompt], n: int, sampling: SamplingSettings, seed: int
    ) -> Samples:
        """``n`` responses to each prompt; their log-weight is NaN, since no formula gives it."""
        drawn = self.policy.sample(prompts, n * self.candidates, sampling, seed).rollouts
        values = self.verdicts(
            [rollout.prompt_text for rollout in drawn],
            [rollout.response_text for rollout in drawn],
        )
        groups: dict[tuple[str, int], list[tuple[float, Rollout]]] = {}
        for value, rollout in zip(values, drawn, strict=True):
            sample = int(rollout.rollout_id.rpartition("-")[2]) // self.candidates
            groups.setdefault((rollout.prompt_id, sample), []).append((value, rollout))
        return Samples([_kept(sample, some) for (_, sample), some in groups.items()])

    def prepared(self) -> AbstractContextManager[None]:
        """Within it, draws of the policy share their set-up."""
        return self.policy.prepared()


def _kept(sample: int, candidates: list[tuple[float, Rollout]]) -> Rollout:
    """The best candidate, the first of equals, under the number of the response it becomes."""
    _, best = max(candidates, key=lambda candidate: candidate[0])
    return replace(best, rollout_id=f"{best.prompt_id}-{sample}", log_weight=float("nan"))


def build(settings: BestOfNSettings, context: DecoderContext) -> Sampler:
    """The response that satisfies the constraint best among several candidates."""
    if context.verdicts is None:
        raise ConfigError("the best_of_n decoder needs a constraint; name a run that has one")
    return BestOfN(context.policy, context.verdicts, settings.candidates)


DECODERS.add("best_of_n")(DecoderKind(build, BestOfNSettings))
