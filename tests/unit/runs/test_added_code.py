"""Which code that somebody added is recorded with a run."""

import subprocess
import sys
import types

import pytest

from acft.constraints import CONSTRAINTS
from acft.errors import ModelError
from acft.runs import added_code as recording
from acft.runs.added_code import added_code
from acft.runs.spec import ROOT, parse_spec
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


def test_a_new_file_is_recorded_whatever_it_is_called(added, monkeypatch):
    place = added.parent / "acft" / "größe.py"
    place.parent.mkdir()
    added.rename(place)
    subprocess.run(["git", "init", "-q", place.parents[1]], check=True)
    monkeypatch.setattr(recording, "ROOT", place.parents[1])
    monkeypatch.setattr(sys.modules["workshop.starts"], "__file__", str(place))
    assert "code of 'workshop.starts'" in found()
    monkeypatch.setattr(recording, "new_files", lambda _: [])
    assert "code of 'workshop.starts'" not in found(), "git knows it"


def test_code_that_the_settings_do_not_name_is_not_recorded(added):
    assert found("length") == {}


def test_a_file_of_the_projects_folders_counts_while_git_does_not_know_it(monkeypatch):
    assert found("length") == {}
    place, asked = CONSTRAINTS._places["length"], []

    def new_files(root):
        asked.append(root)
        return [f"{place.replace('.', '/')}.py"]

    monkeypatch.setattr(recording, "new_files", new_files)
    assert found("length").keys() == {f"code of {place!r}"}
    assert asked == [ROOT], "git is started once for all modules"
