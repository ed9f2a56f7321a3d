"""A run's tuned policy as a folder that plain ``transformers`` or ``peft`` opens."""

import errno
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from acft.atomic import TEMPORARY, new_folder
from acft.backbone.saving import weight_bytes, write_adapter, write_model
from acft.constraints import parse_constraints
from acft.errors import ConfigError, DataError
from acft.eventlog import effective, read_events
from acft.events import Evaluated
from acft.methods.base import METHODS
from acft.model_card import Base, CardFacts, model_card, without_folder
from acft.oracle.base import ORACLES
from acft.runs.directory import (
    all_runs,
    read_launch,
    read_resolved,
    read_status,
    refuse_links,
)
from acft.runs.exports import Export
from acft.runs.locks import FileLock
from acft.runs.restore import (
    RestoredRun,
    open_run,
    sealed_round,
    used_control,
    used_decoder,
)
from acft.runs.sizes import size
from acft.runs.status import current_state
from acft.schema import LOCK, RunPaths
from acft.training.subjects import PLAIN

CARD = "README.md"
ORACLE_FOLDER = "oracle"
MARGIN_BYTES = 50 * 2**20
"""Room for everything beside the weights: tokenizer, card, oracle."""
BASE = "base"
SUBJECTS = (BASE, "policy")


def export_run(
    run_dir: Path,
    destination: Path,
    checkpoint: int | None = None,
    *,
    merge: bool = True,
    with_oracle: bool = False,
) -> Path:
    """The folder just written: weights, tokenizer and model card; whole or not at all.

    Args:
        run_dir: The run's directory.
        destination: New or empty folder.
        checkpoint: Round; None takes the one validation prefers, else the last.
        merge: Whole weights; otherwise only the adapter, in peft's form.
        with_oracle: Also the oracle, for guided decoding elsewhere.

    Raises:
        ConfigError: The destination is taken, or the run has no adapter to export.
        RunError: The run has no such round.
        DataError: A file of the run is damaged, or the disk is full.
        ModelError: The base model cannot be opened.
    """
    target = Path(destination).expanduser().absolute()
    _require_empty(target)
    run = open_run(run_dir, checkpoint, "cpu", _trained_dtype(RunPaths(Path(run_dir))))
    if not merge and run.settings.adapter.kind == "full":
        raise ConfigError(
            f"run {run.run_id} trained every weight, so there is no adapter; export it merged"
        )
    base = Base.of(run.base.backbone)
    with _written(target) as folder:
        if merge:
            _require_space(folder.parent, weight_bytes(run.tuned.backbone.model))
            write_model(run.tuned.backbone, folder)
        else:
            write_adapter(run.policy_folder, run.base.backbone, base.hub_id, folder)
        if with_oracle:
            run.portable_oracle.save(folder / ORACLE_FOLDER)
        card = model_card(card_facts(run, base, merge=merge, with_oracle=with_oracle))
        (folder / CARD).write_text(card, encoding="utf-8")
        _share(folder)
    return target


def export_within(run_dir: Path, export: Export) -> Path:
    """The export in the folder of its run; one that is there already is not written again.

    Raises:
        RunError: Another process is writing there, or the run has no such round.
        DataError: A link leads out of the run's folder.
        AcftError: As ``export_run``.
    """
    paths = RunPaths(Path(run_dir))
    folder = export.folder(paths)
    if folder.is_dir():
        return folder
    sealed_round(paths, export.round)
    refuse_links(paths)
    paths.exports.mkdir(exist_ok=True)
    with FileLock(paths.exports / LOCK):
        for remains in paths.exports.glob(f"{TEMPORARY}*"):  # of a process that was killed
            shutil.rmtree(remains)
        return export_run(
            paths.root, folder, export.round,
            merge=export.is_merged, with_oracle=export.has_oracle,
        )  # fmt: skip


def hints(run_dir: Path, *, with_oracle: bool) -> list[str]:
    """What whoever uses an export of a run has to know, one sentence each."""
    method, found = read_resolved(RunPaths(Path(run_dir)))["method"], []
    if used_decoder(method) != PLAIN and not with_oracle:
        found.append("the constraint is not in these weights but in the oracle; take it along")
    if control := used_control(method):
        found.append(
            f"begin every prompt with {json.dumps(control)}; the model was taught to need it"
        )
    return found


def card_facts(run: RestoredRun, base: Base, *, merge: bool, with_oracle: bool) -> CardFacts:
    """What the model card of a run tells."""
    by_suite = _by_suite(run)
    is_base_read = ORACLES.get(run.settings.oracle.kind).runs_backbone
    return CardFacts(
        title=run.settings.title or f"{base.name} tuned by {run.method['name']}",
        form="merged" if merge else "adapter",
        base=base,
        has_oracle=with_oracle,
        needs_base=merge and (is_base_read or run.settings.adapter.kind == "full"),
        control=run.control,
        is_guided=run.decoder != PLAIN,
        other_method=_other_method(run.method),
        made=_made(run, base),
        measured=[event for _, events in by_suite.values() for event in events],
        drawn=_drawn(run, by_suite),
    )


def _other_method(method: Mapping[str, Any]) -> str:
    """Name and summary of the method; empty for one whose loss is that of ACFT."""
    name = str(method["name"])
    if name == "acft" and method.get("kl_weight"):
        return ""
    if name == "acft":
        return "`acft` with `kl_weight = 0`, which is plain fine-tuning,"
    return f"`{name}` ({METHODS.get(name).summary.rstrip('.')})"


def _drawn(run: RestoredRun, by_suite: Mapping[str, "_Told"]) -> dict[str, dict[str, Any]]:
    """How the responses were drawn that are measured, by suite without its scorer."""
    own = {
        "horizon": run.settings.sampling.horizon,
        "temperature": 1.0,
        "top_p": run.settings.evaluation.top_p,
    }
    found: dict[str, dict[str, Any]] = {}
    for suite, (paths, _) in by_suite.items():
        name = suite.partition("/")[0]
        facts = read_resolved(paths).get("facts", {})
        drawings = {"rtp": own} if paths == run.paths else facts.get("drawings", {})
        if name in drawings:
            found[name] = drawings[name]
    return found


_Told = tuple[RunPaths, list[Evaluated]]
"""A run or evaluation and what it says."""


def _by_suite(run: RestoredRun) -> dict[str, _Told]:
    """What is known about exactly this checkpoint and its base, and who says it, by suite.

    A later evaluation replaces what the run or an earlier one says about the same suite, unless it
    says nothing of the base, as those of a table, where that is known.
    """
    found: dict[str, _Told] = {}
    for paths in [run.paths, *_evaluations(run)]:
        events = [entry.event for entry in effective(read_events(paths.events))]
        evaluated = [e for e in events if isinstance(e, Evaluated) and e.subject in SUBJECTS]
        versions = {e.policy_version for e in evaluated if e.subject == "policy"}
        if versions == {run.sealed.policy_version}:
            for suite in dict.fromkeys(e.suite for e in evaluated):
                said = [e for e in evaluated if e.suite == suite]
                if _tells_base(said) or not _tells_base(found.get(suite, (paths, []))[1]):
                    found[suite] = paths, said
    return found


def _tells_base(said: Sequence[Evaluated]) -> bool:
    return any(event.subject == BASE for event in said)


def _evaluations(run: RestoredRun) -> list[RunPaths]:
    """Finished runs beside this one that measure it on the weights it was trained from."""
    beside = (paths for paths in all_runs(run.paths.root.parent) if paths.root != run.paths.root)
    return [
        paths
        for paths in beside
        if _subject(paths) == run.run_id
        and current_state(paths)[1].state == "finished"
        and _is_of_weights(paths, str(run.facts.get("model_sha256")))
    ]


def _is_of_weights(evaluation: RunPaths, base_sha256: str) -> bool:
    """Whether an evaluation is about what is trained from those weights, without a decoder."""
    try:
        subject = read_resolved(evaluation)["method"]["subjects"]["policy"]
        return subject["base_sha256"] == base_sha256 and subject["decoder"] == PLAIN
    except (LookupError, TypeError):
        return False


def _subject(paths: RunPaths) -> str:
    try:
        return read_launch(paths).subject
    except DataError:
        return ""


def _made(run: RestoredRun, base: Base) -> dict[str, str]:
    settings, method = run.settings, run.method
    chosen = {key: value for key, value in method.items() if key != "name"}
    adapter = settings.adapter
    kind = "every weight" if adapter.kind == "full" else f"LoRA, rank {adapter.rank}"
    return {
        "constraint": _in_words(settings.constraint),
        "base model": f"{base.name}, SHA-256 {run.base.backbone.sha256}",
        "method": f"{method['name']}: {_listed(chosen)}" if chosen else str(method["name"]),
        "trained": f"{kind}, {settings.optimizer.steps_per_round} steps of "
        f"{settings.optimizer.batch_size} documents a round, lr {settings.optimizer.lr:g}",
        "rounds": f"{run.sealed.round} of {settings.schedule.rounds}, {settings.schedule.kind}",
        "corpora": ", ".join(
            f"{without_folder(corpus.source)} ({corpus.domain})" for corpus in settings.corpus
        ),
        "prompts": without_folder(settings.prompts.source),
        "longest response": f"{settings.sampling.horizon} tokens",
        "training scorers": ", ".join(_scorers(run)) or "none",
        "seed": str(settings.seed),
        "dtype": str(run.base.backbone.model.dtype).removeprefix("torch."),
        "run": run.run_id,
    }


def _scorers(run: RestoredRun) -> Iterator[str]:
    named = json.dumps(run.settings.constraint, default=str)
    for scorer in run.facts.get("scorers", []):
        if json.dumps(scorer["name"]) in named:
            yield f"{scorer['name']} {scorer['version']} (SHA-256 {scorer['sha256'][:16]})"


def _in_words(constraints: tuple[Mapping[str, Any], ...]) -> str:
    return " and ".join(parsed.describe() for parsed in parse_constraints(constraints))


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in values.items())


def _value(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (list, dict, tuple)) else str(value)


def _trained_dtype(paths: RunPaths) -> str:
    """The dtype of the weights while the run trained."""
    resolved = read_resolved(paths)
    try:
        recorded = resolved.get("facts", {}).get("dtype") or resolved["settings"]["dtype"]
    except (KeyError, TypeError, AttributeError):
        return ""
    if recorded != "auto":
        return recorded
    return "bfloat16" if read_status(paths).device.startswith("cuda") else "float32"


def _require_empty(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(
            f"{str(target)!r} is there already and is not an empty folder; name a new one"
        )


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + MARGIN_BYTES:
        raise DataError(
            f"the export needs {size(needed + MARGIN_BYTES)} and {str(folder)!r} has {size(free)} "
            "free; free space or name another disk"
        )


def _share(folder: Path) -> None:
    """Give every file the rights of an ordinary one; safetensors' are for their owner only."""
    for file in folder.rglob("*"):
        if file.is_file():
            shutil.copymode(folder / CARD, file)


@contextmanager
def _written(target: Path) -> Iterator[Path]:
    """A new folder; why it cannot be written is told in words."""
    try:
        with new_folder(target) as folder:
            yield folder
    except (OSError, SafetensorError) as error:
        # a SafetensorError tells a full disk in words only
        is_other = isinstance(error, OSError) and error.errno != errno.ENOSPC
        way_out = "choose" if is_other else "free space or choose"
        raise DataError(
            f"cannot write {str(target)!r}: {error}; {way_out} another folder"
        ) from error
