"""Tags and notes of runs: shown, filtered by, and edited where the browser may."""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from acft.errors import ConfigError
from acft.ui.page import Visit
from acft.ui.reading.reader import Run
from acft.ui.web.dom import Node, act, choose, el
from acft.ui.web.pager import PART

MAX_TAGS = 12
MAX_TAG_LETTERS = 40
MAX_NOTE_LETTERS = 2000


def chips(run: Run) -> list[Node]:
    """The run's tags with spaces between them; each leads to the runs that share it."""
    shown: list[Node] = [
        el("a.chip", tag, href=f"./?tag={quote(tag, safe='')}", title=f"All runs tagged {tag}")
        for tag in run.labels.tags
    ]
    if run.labels.archived:
        shown.append(el("span.chip", "archived"))
    return [part for chip in shown for part in (" ", chip)][1:]


def notes(run: Run) -> Node | None:
    """The run's notes."""
    return el("span.sub.notes", run.labels.notes) if run.labels.notes else None


def editor(run: Run, visit: Visit) -> Node | None:
    """Fields for tags and notes, saved when left; nothing for who may only look."""
    if not visit.may_change:
        return None
    return el(
        "details.labels",
        el("summary", "Edit tags and notes", aria_label=f"Edit tags and notes of {run.title}"),
        el("label.side", "Tags, separated by commas ", el(
            "input", type="text", value=", ".join(run.labels.tags), maxlength="500",
            name=f"tags-{run.run_id}", data_late=True, autocomplete="off",
            **act("relabel", run=run.run_id, what="tags"))),
        el("label.side", "Notes ", el(
            "textarea", value=run.labels.notes, rows="2", maxlength=str(MAX_NOTE_LETTERS),
            name=f"notes-{run.run_id}", data_late=True,
            **act("relabel", run=run.run_id, what="notes"))),
        el("label.side", el(
            "input", type="checkbox", checked=run.labels.archived, name=f"archived-{run.run_id}",
            **act("relabel", run=run.run_id, what="archived")), " archived: left out of lists"),
        el("span.side", "Saved when you leave a field."),
        key=f"labels-{run.run_id}",
    )  # fmt: skip


def changes(data: dict[str, Any]) -> dict[str, Any]:
    """What one field of the editor sets.

    Raises:
        ConfigError: It is none of them, or too long.
    """
    what, value = data.get("what"), data.get("value")
    if what == "archived" and isinstance(value, bool):
        return {"archived": value}
    if what not in ("tags", "notes") or not isinstance(value, str):
        raise ConfigError(f"{what!r} is no label of a run; reload the page")
    if what == "notes":
        if len(value) > MAX_NOTE_LETTERS:
            raise ConfigError(f"notes of {len(value)} letters; at most {MAX_NOTE_LETTERS} are kept")
        return {"notes": value.strip()}
    tags = [" ".join(tag.split()) for tag in value.split(",") if tag.strip()]
    if len(tags) > MAX_TAGS:
        raise ConfigError(
            f"{len(tags)} tags; at most {MAX_TAGS} are kept, so none was changed; remove some"
        )
    for tag in tags:
        if len(tag) > MAX_TAG_LETTERS:
            raise ConfigError(
                f"the tag {tag!r} has {len(tag)} letters; at most {MAX_TAG_LETTERS} are kept, so "
                "no tag was changed; shorten it"
            )
    return {"tags": tuple(sorted(set(tags)))}


def tag_menu(runs: Sequence[Run], visit: Visit) -> Node | None:
    """A menu of all tags with how many runs have each; nothing where no run has any."""
    numbers = Counter(tag for run in runs for tag in run.labels.tags)
    wanted = visit.query.get("tag", "")
    if not numbers and not wanted:
        return None
    names = sorted({*numbers, wanted} - {""}, key=str.lower)
    pairs = [("", "any tag"), *((name, f"{name} ({numbers[name]})") for name in names)]
    return choose(pairs, wanted, "Tag", data_query="tag", data_clear=PART, **act("refresh"))


def archived_box(runs: Sequence[Run], visit: Visit) -> Node | None:
    """Whether archived runs are listed too; nothing where there are none."""
    n = sum(run.labels.archived for run in runs)
    if not n:
        return None
    box = el("input", type="checkbox", data_query="archived", name="archived",
             checked=visit.query.get("archived") == "true", data_clear=PART,
             **act("refresh"))  # fmt: skip
    return el("label.side", box, f" {n} archived too")


def belongs(run: Run, visit: Visit) -> bool:
    """Whether the run has the wanted tag and is not archived, or archived ones are wanted."""
    tag = visit.query.get("tag", "")
    if tag and tag not in run.labels.tags:
        return False
    return not run.labels.archived or visit.query.get("archived") == "true"
