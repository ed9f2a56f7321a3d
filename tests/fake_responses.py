"""Scored responses with chosen texts and scores, for tests of metrics and evaluation."""

from collections.abc import Sequence

from acft.types import Rollout, ScoredRollout


def response(
    prompt: str, text: str = "a b c", satisfaction: float = 1.0, sample: int = 0, **scores: float
) -> ScoredRollout:
    words = text.split()
    rollout = Rollout(
        rollout_id=f"{prompt}-{sample}",
        prompt_id=prompt,
        prompt_text="Once",
        response_text=text,
        prompt_ids=(1,),
        response_ids=tuple(range(len(words))),
        response_logprobs=(0.0,) * len(words),
        policy_version=0,
    )
    return ScoredRollout(rollout, satisfaction, dict(scores))


def with_scores(**scores_of_prompt: Sequence[float]) -> list[ScoredRollout]:
    """Responses of each prompt with the given scores of scorer ``judge``."""
    return [
        response(prompt, sample=sample, judge=float(score))
        for prompt, scores in scores_of_prompt.items()
        for sample, score in enumerate(scores)
    ]


def with_texts(**texts_of_prompt: Sequence[str]) -> list[ScoredRollout]:
    """Responses of each prompt with the given texts."""
    return [
        response(prompt, text, sample=sample, judge=0.0)
        for prompt, texts in texts_of_prompt.items()
        for sample, text in enumerate(texts)
    ]
