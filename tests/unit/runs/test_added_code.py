"""Which code that somebody added is recorded with a run."""

import sys
import types

import pytest

from acft.config import Config
from acft.constraints import CONSTRAINTS
from acft.errors import ModelError
from acft.runs import added_code as recording
from acft.runs.added_code import added_code
from acft.runs.spec import parse_spec
from acft.training.sameness import named, require_same

SPEC = """
[[constraint]]
kind = "all_of"
constraints = [{kind = "length", maximum = 9}, {kind = "KIND"}]
"""


@pytest.fixture
def added(tmp_path, monkeypatch):
    """The file of a module in another package that registers a constraint."""
    file = tmp_path / "starts.py"
    file.write_text("as it was")
    module = types.ModuleType("workshop.starts")
    module.__file__ = str(file)
    monkeypatch.setitem(sys.modules, "workshop.starts", module)
    CONSTRAINTS.names()
    monkeypatch.setitem(CONSTRAINTS._items, "starts", CONSTRAINTS.get("length"))
    monkeypatch.setitem(CONSTRAINTS._places, "starts", "workshop.starts")
    return file


def found(kind="starts"):
    text = SPEC.replace('{kind = "KIND"}', f'{{kind = "{kind}", maximum = 5}}')
    return named({"code": added_code(parse_spec(text))})


def test_other_code_of_a_name_in_the_settings_is_noticed_and_its_module_named(added):
    before = found()
    assert before.keys() == {"code of 'workshop.starts'"}
    require_same(before, found(), "run", "begin anew")
    added.write_text("as it is")
    with pytest.raises(ModelError, match=r"code of 'workshop\.starts' is "):
        require_same(before, found(), "run", "begin anew")


def test_code_that_the_settings_do_not_name_is_not_recorded(added):
    assert found("length") == {}


def test_a_file_of_the_projects_folders_counts_while_git_does_not_know_it(monkeypatch):
    assert issubclass(CONSTRAINTS.get("length"), Config)
    assert found("length") == {}
    place = CONSTRAINTS._places["length"]
    monkeypatch.setattr(recording, "new_files", lambda _: [f"{place.replace('.', '/')}.py"])
    assert found("length").keys() == {f"code of {place!r}"}
