"""Who answered, and under which conditions: from what the runs recorded, never from labels."""

from acft.ui.reading.pairs import Subject
from acft.ui.reading.reader import Run, read_json, table_of
from acft.ui.web.dom import Node, el

HASH_LETTERS = 12


def conditions(run: Run) -> dict[str, str]:
    """What both sides of a comparison must share, by name."""
    settings = run.settings
    evaluation, sampling = table_of(settings, "evaluation"), table_of(settings, "sampling")
    model, prompts = table_of(settings, "model"), table_of(settings, "prompts")
    return {
        "model": str(model.get("name", "not recorded")),
        "chat template": "yes" if model.get("chat_template") else "no",
        "prompts": str(prompts.get("source", "not recorded")),
        "horizon": f"{sampling.get('horizon', '?')} tokens",
        "top-p": str(evaluation.get("top_p", "?")),
        "seed": str(settings.get("seed", "?")),
        "dtype": str(settings.get("dtype", "?")),
    }


def same_conditions(first: Run, second: Run) -> bool:
    """Whether two runs answered under equal conditions."""
    return conditions(first) == conditions(second)


def identity(run: Run, subject: Subject) -> Node:
    """A badge with the weights that answered."""
    kind = {"base": "base", "guided": "guided"}.get(subject.label, "tuned")
    digest = weight_hash(run, subject)
    shown = f"sha256 {digest[:HASH_LETTERS]}…" if digest else "weight hash not recorded"
    return el("span.identity", el(f"span.chip.{kind}", subject.label), " ",
              el("code", shown, title=digest or None), " ")  # fmt: skip


def weight_hash(run: Run, subject: Subject) -> str:
    """SHA-256 of the weights behind a subject, empty where the run did not record it."""
    if subject.label == "base":
        found = table_of(run.facts, "model").get("sha256") or run.facts.get("model_sha256") or ""
        return str(found)
    return _manifest_hash(run, subject.version)


def _manifest_hash(run: Run, version: int) -> str:
    """Hash of the policy's file in the checkpoint of a version."""
    found = [r for r in run.history.rounds if r.policy_version == version]
    if not found:
        return ""
    manifest = read_json(run.paths.root / found[-1].checkpoint / "manifest.json")
    files = manifest.get("files")
    for name, facts in sorted(files.items()) if isinstance(files, dict) else ():
        if name.startswith("policy/") and name.endswith(".safetensors"):
            return str(facts.get("sha256", ""))
    return ""
