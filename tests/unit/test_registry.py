"""Names lead to objects, a wrong name to the right one, and a broken file takes nothing with it."""

import logging
import sys
import threading

import pytest

from acft.errors import ConfigError
from acft.registry import FAILED, Registry, did_you_mean, extensions


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry over a package of three files, one of which registers two names."""
    package = tmp_path / "drawer"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "base.py").write_text(
        "from acft.registry import Registry\nTOOLS = Registry('tool', 'drawer', str)\n"
    )
    (package / "saw.py").write_text(
        "from drawer.base import TOOLS\nTOOLS.add('saw')('cuts')\nTOOLS.add('axe')('chops')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import drawer.base  # pyright: ignore[reportMissingImports]

    extensions.cache_clear()
    yield drawer.base.TOOLS
    extensions.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] in ("drawer", "workshop")]:
        del sys.modules[name]
    for name in [name for name in FAILED if name.split(".")[0] in ("drawer", "workshop")]:
        del FAILED[name]


def add_package(folder, text):
    """An installed package whose module joins the drawer."""
    (folder / "workshop.py").write_text(text)
    facts = folder / "workshop-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: workshop\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[drawer]\nplane = workshop\n")


def test_another_line_in_any_file_is_other_code(registry, tmp_path):
    before = registry.code_sha256()
    assert registry.code_sha256() == before
    with (tmp_path / "drawer" / "saw.py").open("a") as file:
        file.write("# cuts deeper\n")
    assert registry.code_sha256() != before


def test_every_file_of_the_folder_registers_itself(registry):
    assert registry.names() == ["axe", "saw"]
    assert dict(registry.items()) == {"axe": "chops", "saw": "cuts"}


def test_unknown_name_lists_what_there_is_and_the_nearest(registry):
    with pytest.raises(
        ConfigError, match=r"unknown tool 'swa'; did you mean 'saw'\? \(allowed: axe, saw\)"
    ):
        registry.get("swa")


def test_a_second_thread_waits_until_every_file_is_imported(registry, tmp_path):
    import drawer  # pyright: ignore[reportMissingImports]

    drawer.is_inside, drawer.may_go_on = threading.Event(), threading.Event()
    (tmp_path / "drawer" / "file.py").write_text(
        "import drawer\ndrawer.is_inside.set()\ndrawer.may_go_on.wait(10)\n"
    )
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(registry.names())) for _ in range(2)]
    threads[0].start()
    assert drawer.is_inside.wait(10)
    threads[1].start()
    threads[1].join(0.2)  # which it would need to answer too early
    drawer.may_go_on.set()
    for thread in threads:
        thread.join()
    assert seen == [["axe", "saw"]] * 2


BROKEN = {
    "import no_such_package\n": "ModuleNotFoundError: No module named 'no_such_package'",
    "x = (\n": r"SyntaxError: '\(' was never closed \(file.py, line 1\)",
    "print('x')\n1 / 0\n": r"ZeroDivisionError: division by zero \(.*file.py, line 2\)",
    "import sys\nsys.exit(3)\n": r"SystemExit: 3 \(.*file.py, line 2\)",
    "from drawer.base import TOOLS\nTOOLS.add('file')(7)\n": "tool 'file' is 7; register an object "
    "of str",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_file_that_cannot_be_imported_is_told_and_takes_no_other_name_with_it(
    registry, tmp_path, text, capsys, caplog
):
    (tmp_path / "drawer" / "file.py").write_text(text)
    with caplog.at_level(logging.WARNING):
        assert registry.names() == ["axe", "saw"]
    why = f"drawer.file is not loaded: .*{BROKEN[text]}"
    with pytest.raises(ConfigError, match=rf"unknown tool 'file'.*allowed: axe, saw\); {why}"):
        registry.get("file")
    assert registry.get("saw") == "cuts"
    (problem,) = registry.problems()
    assert caplog.messages == [problem]
    assert capsys.readouterr().out == ""


def test_a_misspelt_name_is_told_only_of_the_broken_file_that_is_called_like_it(registry, tmp_path):
    for name in ("file", "chisel"):
        (tmp_path / "drawer" / f"{name}.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError) as caught:
        registry.get("filee")
    assert "; drawer.file is not loaded: " in str(caught.value)
    assert "chisel" not in str(caught.value)
    with pytest.raises(
        ConfigError, match=r"\(allowed: axe, saw\); 2 files could not be loaded, see 'acft doctor'$"
    ):
        registry.get("swa")


def test_what_is_registered_wrongly_is_told_with_the_line_of_the_file_that_does_it(
    registry, tmp_path
):
    (tmp_path / "drawer" / "file.py").write_text(
        "from drawer.base import TOOLS\n\ndef scrape():\n    ...\n\nTOOLS.add('file')(scrape)\n"
    )
    (problem,) = registry.problems()
    why = "tool 'file' is the function 'scrape'; register an object of str"
    assert f"{why} ({tmp_path}/drawer/file.py, line 6)" in problem


def test_what_fails_inside_a_library_is_told_with_the_line_of_the_file_that_asks_for_it(
    registry, tmp_path
):
    (tmp_path / "drawer" / "file.py").write_text("import json\n\njson.loads('{')\n")
    (problem,) = registry.problems()
    assert f"({tmp_path}/drawer/file.py, line 3)" in problem


def test_what_is_no_class_is_told_where_classes_are_registered():
    def cut(): ...

    with pytest.raises(ConfigError, match="tool 'saw' is the function 'cut'; register a class"):
        Registry("tool", "acft", type).add("saw")(cut)


def test_a_name_that_two_files_claim_is_nobodys_and_both_are_told(registry, tmp_path):
    (tmp_path / "drawer" / "another.py").write_text(
        "from drawer.base import TOOLS\nTOOLS.add('saw')('sings')\nTOOLS.add('file')('smooths')\n"
    )
    assert registry.names() == ["axe", "file"]
    both = "two tools are called 'saw', one in drawer.another and one in drawer.saw"
    with pytest.raises(ConfigError, match=both):
        registry.get("saw")
    (problem,) = registry.problems()
    assert problem.startswith(both)


def test_an_installed_package_adds_names_as_an_entry_point(registry, tmp_path):
    add_package(tmp_path, "from drawer.base import TOOLS\nTOOLS.add('plane')('shaves')\n")
    assert registry.get("plane") == "shaves"


def test_an_installed_package_that_cannot_be_imported_is_named(registry, tmp_path):
    add_package(tmp_path, "1 / 0\n")
    assert registry.names() == ["axe", "saw"]
    with pytest.raises(ConfigError, match="; workshop of the package workshop is not loaded"):
        registry.get("plane")
    (problem,) = registry.problems()
    assert problem.startswith("workshop of the package workshop is not loaded: ZeroDivisionError")


def test_name_cannot_be_taken_twice():
    registry = Registry("tool", "acft")
    registry.add("saw")("cuts")
    with pytest.raises(ConfigError, match="two tools are called 'saw'"):
        registry.add("saw")("chops")


def test_same_object_may_register_again():
    registry = Registry("tool", "acft")
    tool = object()
    assert registry.add("saw")(tool) is registry.add("saw")(tool)


@pytest.mark.parametrize(
    ("name", "hint"), [("rouds", "; did you mean 'rounds'?"), ("xyz", ""), ("", "")]
)
def test_hint_is_given_only_when_something_is_near(name, hint):
    assert did_you_mean(name, ["rounds", "steps"]) == hint
