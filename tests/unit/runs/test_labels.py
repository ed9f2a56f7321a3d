import threading

import pytest

from acft.runs.directory import read_labels
from acft.runs.labels import label

pytestmark = pytest.mark.usefixtures("fake_method_known")


def test_labels_change_one_by_one(tmp_path, done):
    name = done.root.name
    label(tmp_path, name, tags=["b", " a ", "", "b"], notes="first")
    label(tmp_path, name, archived=True)
    labels = read_labels(done)
    assert (labels.tags, labels.notes, labels.archived) == (("a", "b"), "first", True)


def test_edits_of_labels_at_the_same_time_do_not_undo_each_other(tmp_path, done):
    name = done.root.name

    def edit(**changes):
        for number in range(40):
            label(tmp_path, name, **{key: value(number) for key, value in changes.items()})

    others = [threading.Thread(target=edit, kwargs={"notes": str}),
              threading.Thread(target=edit, kwargs={"archived": lambda n: n % 2 == 1})]  # fmt: skip
    for other in others:
        other.start()
    edit(tags=lambda n: [str(n)])
    for other in others:
        other.join()
    labels = read_labels(done)
    assert (labels.tags, labels.notes, labels.archived) == (("39",), "39", True)
