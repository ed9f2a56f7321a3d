import math
import threading
from collections import OrderedDict

import pytest

from acft.errors import ModelError
from acft.scoring import CachedScorer, ScoreCache, ScorerPool, score_texts
from tests.fake_scorers import AnswerScorer, RuleScorer


def test_every_distinct_text_is_scored_once_and_order_is_kept():
    scorer = RuleScorer()
    scores = ScoreCache().score(scorer, ["xx", "a", "xx", "xa", "a"])
    assert scores == [1.0, 0.0, 1.0, 0.5, 0.0]
    assert scorer.asked == [["xx", "a", "xa"]]


def test_known_texts_are_not_scored_again():
    scorer, cache = RuleScorer(), ScoreCache()
    cache.score(scorer, ["xx", "a"])
    assert cache.score(scorer, ["a", "x", "xx"]) == [0.0, 1.0, 1.0]
    assert scorer.asked == [["xx", "a"], ["x"]]


def test_no_text_asks_nobody():
    scorer = RuleScorer()
    assert ScoreCache().score(scorer, []) == []
    assert scorer.asked == []


@pytest.mark.parametrize("change", [{"name": "b"}, {"version": "2"}, {"sha256": "1" * 64}])
def test_another_scorer_version_or_weights_are_not_confused(change):
    cache = ScoreCache()
    cache.score(RuleScorer(), ["x"])
    other = RuleScorer(**change)
    cache.score(other, ["x"])
    assert other.asked == [["x"]]


def test_the_cache_forgets_what_was_not_used_for_longest():
    scorer, cache = RuleScorer(), ScoreCache(limit=2)
    cache.score(scorer, ["a", "b"])
    cache.score(scorer, ["a"])
    cache.score(scorer, ["c"])
    assert len(cache) == 2
    scorer.asked.clear()
    assert cache.score(scorer, ["a", "c", "b"]) == [0.0, 0.0, 0.0]
    assert scorer.asked == [["b"]]


def test_more_new_texts_than_the_cache_holds_are_all_scored():
    assert ScoreCache(limit=1).score(RuleScorer(), ["x", "a", "xa"]) == [1.0, 0.0, 0.5]


def test_a_score_is_not_forgotten_between_finding_and_reading_it():
    scorer, cache = RuleScorer(), ScoreCache(limit=1)
    cache.score(scorer, ["known"])
    other = threading.Thread(target=cache.score, args=(scorer, ["new"]))

    class Contested(OrderedDict):
        def __contains__(self, key):
            found = super().__contains__(key)
            if other.ident is None:
                other.start()
                other.join(0.2)
            return found

    cache._scores = Contested(cache._scores)
    assert cache.score(scorer, ["known"]) == scorer.score(["known"])
    other.join()


def test_a_text_that_utf_8_cannot_encode_is_scored():
    assert ScoreCache().score(RuleScorer(), ["\ud800x"]) == [0.5]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([0.5], "gave 1 values for 2 texts"),
        ([0.5, math.nan], r"gave nan among others, 1 of 2 values are not in \[0, 1\]"),
        ([-0.1, 1.1], r"gave -0\.1 among others, 2 of 2"),
        (RuntimeError("no luck"), "failed on 2 texts: RuntimeError: no luck"),
        (ValueError("bad"), r"failed on 2 texts: ValueError: bad \(.*fake_scorers.py, line \d+\)"),
        (AttributeError("gone"), "failed on 2 texts: AttributeError: gone"),
        (["0.5", 0.5], "failed on 2 texts: TypeError: must be real number, not str"),
        (None, "gave None for 2 texts; it must give a list of 2 numbers"),
    ],
)
def test_a_wrong_answer_names_the_scorer_and_how_many(answer, message):
    cache = ScoreCache()
    with pytest.raises(ModelError, match=f"scorer 'rule' {message}"):
        cache.score(AnswerScorer(answer=answer), ["a", "b"])
    assert len(cache) == 0


def test_an_error_that_already_says_what_is_wrong_is_passed_on():
    with pytest.raises(ModelError, match=r"^weights are gone$"):
        ScoreCache().score(AnswerScorer(answer=ModelError("weights are gone")), ["a"])


def test_running_out_of_device_memory_is_passed_on_for_the_worker():
    import torch

    with pytest.raises(torch.OutOfMemoryError):
        ScoreCache().score(AnswerScorer(answer=torch.OutOfMemoryError()), ["a"])


def test_a_pool_loads_each_scorer_once_on_its_device():
    loaded = []

    def load(name, device):
        loaded.append((name, device))
        return RuleScorer(name)

    pool = ScorerPool("cuda", load=load)
    assert pool("a") is pool("a")
    assert pool("b").name == "b"
    assert loaded == [("a", "cuda"), ("b", "cuda")]


def test_scores_come_by_scorer_name():
    scorers = [CachedScorer(RuleScorer(name), ScoreCache()) for name in ("a", "b")]
    assert score_texts(scorers, ["x", ""]) == {"a": [1.0, 0.0], "b": [1.0, 0.0]}
