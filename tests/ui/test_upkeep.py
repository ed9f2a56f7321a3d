"""What may be done with a run's files: export, space, deletion, going on after a chosen round."""

import shutil
import threading
from dataclasses import replace

import pytest

from acft.errors import RunError
from acft.inference.client import Inference
from acft.runs.directory import read_status, write_status
from acft.runs.exports import Export, exports
from acft.runs.sizes import size
from acft.schema import RunPaths
from acft.ui.page import POLL_SECONDS, REST_SECONDS
from acft.ui.pages import run as run_page
from acft.ui.parts import run_details, upkeep
from acft.ui.reading.reader import Reader
from acft.ui.web.dom import text_of
from acft.ui.web.guard import Bind
from tests.ui import synthetic
from tests.ui.conftest import LIVE, LOST, QUICK, make_bench, visit


@pytest.fixture
def own(tmp_path):
    """A workbench over runs that may be changed, whose checkpoints are there."""
    synthetic.write_many(tmp_path)
    for run_id in (QUICK, LOST, LIVE):
        run = Reader(tmp_path).run(run_id)
        assert run is not None
        for sealed in run.history.rounds:
            folder = tmp_path / run_id / sealed.checkpoint
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "weights").write_bytes(b"x" * 2048)
    bench = make_bench(tmp_path, tmp_path)
    yield bench
    bench.close()


def part(bench, run_id, **query):
    seen = visit(run_id, may_change=True, **query)
    return upkeep.panel(bench, seen, bench.reader.run(run_id))


def test_names_of_exports_are_read_back_and_other_folders_are_none(tmp_path):
    paths = RunPaths(tmp_path)
    made = [Export(2, is_merged=False), Export(2), Export(10, has_oracle=True)]
    for export in made:
        export.folder(paths).mkdir(parents=True)
    for other in (".tmp-1234-round-3-merged", "round-x-merged", "mine"):
        (paths.exports / other).mkdir()
    assert exports(paths) == made


def test_the_preferred_round_is_offered_first_and_others_may_be_chosen(own):
    run = own.reader.run(QUICK)
    numbers = [sealed.round for sealed in run.history.rounds]
    preferred = run.history.best.round
    assert f"round {preferred}, preferred" in text_of(part(own, QUICK))
    assert upkeep.chosen(visit(QUICK), run) == Export(preferred)
    asked = visit(QUICK, export_round=str(numbers[0]), export_form="adapter", export_oracle="true")
    assert upkeep.chosen(asked, run) == Export(numbers[0], is_merged=False, has_oracle=True)


@pytest.mark.parametrize("asked", ["99", "-1", "x", "../1", "²"])
def test_a_round_that_is_not_there_is_shown_and_no_choice_and_the_others_stay_in_reach(own, asked):
    run = own.reader.run(QUICK)
    with pytest.raises(RunError, match="has no checkpoint of round"):
        upkeep.chosen(visit(QUICK, export_round=asked), run)
    shown = options(part(own, QUICK, export_round=asked))
    selected = next(each for each in shown if "selected" in each[1])
    assert text_of(selected) == f"{asked}: not there"
    numbers = [str(sealed.round) for sealed in run.history.rounds]
    assert [each[1]["value"] for each in shown][1 : len(numbers) + 1] == numbers


def options(node):
    if not isinstance(node, list):
        return []
    inside = [found for child in node[2:] for found in options(child)]
    return [node, *inside] if node[0] == "option" else inside


def test_while_an_export_is_written_every_tab_says_so_and_nothing_else_may_be_asked(own):
    began, go_on = threading.Event(), threading.Event()

    class Slow(Inference):
        def call(self, *_, **__):
            began.set()
            go_on.wait(10)
            return []

    wanted = Export(2, is_merged=False)
    writing = threading.Thread(target=own.control.export, args=(QUICK, wanted, Slow()))
    before = run_page.marks_of(own, own.reader.run(QUICK))
    writing.start()
    began.wait(10)
    assert run_page.marks_of(own, own.reader.run(QUICK)).texts != before.texts
    shown = part(own, QUICK)
    assert "Writing round-2-adapter" in text_of(shown)
    assert run_page.paced(own, visit(QUICK), REST_SECONDS)[1] == POLL_SECONDS
    assert "['fieldset', {'class': 'toolbar', 'disabled': ''" in str(shown)
    for forbidden in (own.control.free, own.control.delete):
        with pytest.raises(RunError, match="round-2-adapter of this run is being written"):
            forbidden(QUICK)
    assert "Writing" not in text_of(part(own, LOST))
    go_on.set()
    writing.join(10)
    assert "Writing" not in text_of(part(own, QUICK))
    assert run_page.paced(own, visit(QUICK), POLL_SECONDS)[1] == REST_SECONDS
    own.control.delete(QUICK)


def test_exports_that_are_there_are_listed_with_their_paths(own):
    run = own.reader.run(QUICK)
    Export(1).folder(run.paths).mkdir(parents=True)
    assert str(Export(1).folder(run.paths)) in text_of(part(own, QUICK))


def test_who_may_only_look_is_offered_nothing(own):
    run = own.reader.run(QUICK)
    assert upkeep.panel(own, visit(QUICK), run) == ""
    demo = replace(own, bind=Bind(is_demo=True))
    assert upkeep.panel(demo, visit(QUICK, may_change=True), run) == ""


def test_only_checkpoints_that_are_neither_best_nor_last_are_freed(own):
    paths = own.reader.run(QUICK).paths
    first, *spare, last = sorted(paths.checkpoints.iterdir())
    kept = {
        "checkpoint": f"checkpoints/{last.name}",
        "best_checkpoint": f"checkpoints/{first.name}",
    }
    write_status(paths, replace(read_status(paths), **kept))
    freed = 2048 * len(spare)
    assert f"Free {size(freed)}" in text_of(part(own, QUICK))
    assert own.control.free(QUICK) == freed
    assert sorted(paths.checkpoints.iterdir()) == [first, last]
    assert "Checkpoints other than" not in text_of(part(own, QUICK))


def test_a_deleted_run_is_gone_from_the_disk_and_the_database(own):
    assert "nothing brings them back" in text_of(part(own, QUICK))
    own.control.delete(QUICK)
    own.ingester.poll()
    assert own.reader.run(QUICK) is None
    assert own.store.rows("SELECT 1 FROM rollouts WHERE run_id = $run", {"run": QUICK}) == []


def test_another_processs_runs_are_neither_freed_nor_deleted_nor_exported(own):
    own.control.owner = lambda: "the workbench at port 1"
    for forbidden in (
        lambda: own.control.free(QUICK),
        lambda: own.control.delete(QUICK),
        lambda: own.control.export(QUICK, Export(1), Inference()),
    ):
        with pytest.raises(RunError, match="supervised by the workbench at port 1"):
            forbidden()
    assert own.reader.run(QUICK) is not None


def test_nothing_of_a_live_run_is_freed_or_deleted(own):
    assert "Stop the run to delete it" in text_of(part(own, LIVE))
    for forbidden in (own.control.free, own.control.delete):
        with pytest.raises(RunError, match="stop it first"):
            forbidden(LIVE)


def test_a_run_that_is_not_over_may_go_on_after_any_round_that_is_there(own):
    run, seen = own.reader.run(LOST), visit(LOST, may_change=True)
    shown = str(run_details.details(own, seen, run))
    for sealed in run.history.rounds:
        assert f"Resume after round {sealed.round}" in shown
    assert "what they have written is given up" in shown
    shutil.rmtree(run.paths.root / run.history.rounds[0].checkpoint)
    shown = str(run_details.details(own, seen, run))
    assert f"Resume after round {run.history.rounds[0].round}" not in shown
    assert "deleted" in shown
    assert "Resume after" not in str(run_details.details(own, visit(LOST), run))
    assert "Resume after" not in str(
        run_details.details(own, visit(QUICK, may_change=True), own.reader.run(QUICK))
    )
