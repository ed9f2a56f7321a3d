"""Names lead to objects, and a wrong name leads to the right one."""

import threading

import pytest

from acft.errors import ConfigError
from acft.registry import Registry, did_you_mean


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry over a package of three files, one of which registers two names."""
    package = tmp_path / "drawer"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "base.py").write_text(
        "from acft.registry import Registry\nTOOLS = Registry('tool', 'drawer')\n"
    )
    (package / "saw.py").write_text(
        "from drawer.base import TOOLS\nTOOLS.add('saw')('cuts')\nTOOLS.add('axe')('chops')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import drawer.base  # pyright: ignore[reportMissingImports]

    yield drawer.base.TOOLS
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "drawer"]:
        del sys.modules[name]


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
