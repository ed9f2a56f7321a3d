"""The settings of a run: documented, strict, possible together."""

import tomllib

import pytest
from pydantic import BaseModel

from acft import settings
from acft.config import Config
from acft.errors import ConfigError
from acft.settings import RunSettings

TABLES = [
    item
    for item in vars(settings).values()
    if isinstance(item, type) and issubclass(item, Config) and item is not Config
]


def test_defaults_are_possible():
    assert RunSettings.parse({}) == RunSettings()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_every_setting_says_what_it_does(table):
    silent = [name for name, field in table.model_fields.items() if not field.description]
    # a table is described by its own class
    assert not [
        n for n in silent if not isinstance(table.model_fields[n].default, BaseModel | tuple)
    ]


def test_lists_and_tables_come_from_toml():
    run = RunSettings.parse(
        tomllib.loads("""
            seed = 4
            [[corpus]]
            source = "a.jsonl"
            [[corpus]]
            source = "b.csv"
            domain = "attribute"
            [evaluation]
            scorers = ["one"]
            [oracle]
            strength = 2
        """)
    )
    assert [corpus.source for corpus in run.corpus] == ["a.jsonl", "b.csv"]
    assert run.evaluation.scorers == ("one",)
    assert run.oracle.strength == 2


def test_resolved_settings_can_be_read_again():
    run = RunSettings(seed=3)
    assert RunSettings.model_validate_json(run.model_dump_json()) == run


@pytest.mark.parametrize(
    "values",
    [
        {"optimizer": {"batch_size": 10, "micro_batch_size": 4}},
        {"oracle": {"strength": 0.0}},
        {"oracle": {"log_r_min": 0.0}},
        {"adapter": {"dropout": 1.0}},
        {"sampling": {"top_p": 0.0}},
        {"seed": -1},
        {"schedule": {"rounds": 10**22}},
        {"device": "gpu"},
        {"corpus": [{"domain": "attribute"}]},
        {"corpus": [{"source": "x", "weight": 0.0}]},
    ],
)
def test_impossible_value_is_refused(values):
    with pytest.raises(ConfigError):
        RunSettings.parse(values)


def test_micro_batches_that_do_not_fill_a_step_are_told_plainly():
    with pytest.raises(
        ConfigError, match=r"^optimizer: batch_size 3 is not a multiple of micro_batch_size 2$"
    ):
        RunSettings.parse({"optimizer": {"batch_size": 3, "micro_batch_size": 2}})


def test_scorers_that_judge_are_not_the_one_that_trains():
    run = RunSettings()
    assert not {constraint.get("scorer") for constraint in run.constraint} & set(
        run.evaluation.scorers
    )
