import sys
from types import SimpleNamespace

import pytest

from acft.corpora.base import PROMPT_SETS, Record
from acft.corpora.hub import check_name, read_hub
from acft.errors import DataError


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for ``datasets`` that notes its calls and serves ``rows`` or raises ``error``."""
    fake = SimpleNamespace(calls=[], rows=[], error=None)

    def load_dataset(path, config, *, split):
        fake.calls.append((path, config, split))
        if fake.error:
            raise fake.error
        return fake.rows

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return fake


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("wikitext", ("wikitext", None, "train")),
        ("owner/name", ("owner/name", None, "train")),
        ("owner/name:config-v1", ("owner/name", "config-v1", "train")),
        ("owner/name::test", ("owner/name", None, "test")),
    ],
)
def test_a_name_selects_data_set_configuration_and_split(hub, name, call):
    hub.rows = [{"text": "a"}, {"text": "  "}]
    assert list(read_hub(name, "text")) == [Record("a")]
    assert hub.calls == [call]


@pytest.mark.parametrize("name", ["", "../secret", "/etc", "a/b/c", "a b", "https://x", "a:b:c:d"])
def test_other_forms_of_name_are_refused(name):
    with pytest.raises(DataError, match="write hub:NAME"):
        check_name(name)


def test_an_unreachable_hub_gives_one_sentence_with_the_way_out(hub):
    hub.error = ConnectionError("no route\nlong traceback")
    with pytest.raises(DataError, match=r"'a/b': no route; check the name and the network, or"):
        next(iter(read_hub("a/b", "text")))


def test_toxigen_prompts_are_sorted_by_group_and_kind(monkeypatch):
    lists = {"hate_trans_1k": ["- a\\n- b\\n-"], "neutral_women_1k": ["- c\\n-", " "]}

    def load_dataset(path, config, *, split):
        assert (path, config) == ("toxigen/toxigen-data", "prompts")
        return [{"text": text} for text in lists[split]]

    fake = SimpleNamespace(
        load_dataset=load_dataset, get_dataset_split_names=lambda path, config: [*lists]
    )
    monkeypatch.setitem(sys.modules, "datasets", fake)
    found = PROMPT_SETS.get("toxigen_prompts").load()
    assert [(record.category, record.text) for record in found] == [
        ("hate_trans", "- a\\n- b\\n-"),
        ("neutral_women", "- c\\n-"),
    ]


def test_a_missing_column_names_the_data_set(hub):
    hub.rows = [{"words": "a"}]
    with pytest.raises(DataError, match="data set 'a/b' row 1 has no column 'text'"):
        next(iter(read_hub("a/b", "text")))
