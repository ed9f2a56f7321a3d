"""About: what this is, how safely it stands, and the words it uses."""

import platform

import acft
from acft.ui.page import PAGES, Page, Visit, Wire, Workbench
from acft.ui.parts.frame import NOTICE, title
from acft.ui.parts.posture import posture
from acft.ui.reading.reader import Run, table_of
from acft.ui.web.dom import Node, el, table, view

WORDS = (
    ("policy p", "the language model being tuned"),
    ("base policy", "its frozen start"),
    ("constraint C", "prompt and response to a value in [0, 1]; 1 = satisfied"),
    ("scorer", "the raw measure behind a constraint, such as toxicity; 1 = toxic"),
    (
        "group bias",
        "how much higher a scorer scores harmless texts about groups of people than everyday ones; "
        "the suite collateral measures it",
    ),
    ("oracle R", "token-level model of the chance that the response will satisfy the constraint"),
    ("guided policy q", "proportional to p·R: the policy, reweighted by the oracle"),
    ("KL(guided ‖ policy)", "what the policy has not absorbed of the guidance, in nats per token"),
    ("rollout", "one sampled response"),
    ("round, step", "outer iteration; one optimiser step"),
    ("version", "finished updates of policy or oracle; 0 is the base"),
    ("cross-entropy (CE), nats", "mean −log p of the texts trained on; 1 nat is 1.44 bits"),
    ("perplexity", "e to the cross-entropy: how surprised the model is by a text; lower is better"),
    ("toxic, satisfied", "a score of 0.5 or more; a constraint value above 0.5"),
    ("95 % interval", "made so that 95 of 100 such ranges hold the value of all prompts and draws"),
    ("calibration", "whether of the responses that the oracle gives 0.8, eight in ten satisfy"),
    ("AUC", "chance that the oracle ranks a satisfying response above a violating one"),
    ("KL weight, strength", "how hard q pulls the policy; the power of R within q"),
    ("sealed", "said of a round whose checkpoint is complete on the disk"),
    ("adapter", "the few extra weights that are trained while the model's own stay (LoRA)"),
)
METHOD = (
    "Attribute-controlled fine-tuning adds to the usual loss on a corpus a KL term to the nearest "
    "distribution that satisfies a constraint on whole responses. An oracle splits that constraint "
    "into guidance for each token, so the term has a closed form. "
)


def page(bench: Workbench) -> Node:
    """The whole page."""
    return el(
        "section",
        el("p.prose", METHOD, el("a", "arXiv:2410.05559", href="https://arxiv.org/abs/2410.05559")),
        el("div.notice.warn", el("b", "Content. "), NOTICE),
        el("h2", "Posture"),
        _posture(bench),
        el("h2", "Models and scorers of the newest runs"),
        _cards(bench),
        el("h2", "Words"),
        el("dl.words", [el("div", el("dt", word), el("dd", meaning)) for word, meaning in WORDS]),
        el("h2", "This installation"),
        el("p.side", f"ACFT {acft.__version__}, Python {platform.python_version()}, "
           f"{platform.system()} {platform.machine()}. The threat model, with a test for each row, "
           "is SECURITY.md in the project."),
    )  # fmt: skip


def _posture(bench: Workbench) -> Node:
    checks = posture(bench)
    rows = [
        [el("span.chip.good", "safe") if c.is_safe else el("span.chip.bad", "loosened"),
         c.name, c.value, el("span.side", c.why)]
        for c in checks
    ]  # fmt: skip
    loose = [c.name for c in checks if not c.is_safe]
    verdict = el("div.notice.good", el("b", "All defaults are in place."))
    if loose:
        verdict = el("div.notice.bad", el("b", "Loosened: "), ", ".join(loose))
    return el(
        "div",
        verdict,
        table([el("span.sr", "Verdict"), "What", "Now", "Why"], rows, caption="Posture"),
    )


def _cards(bench: Workbench) -> Node:
    rows = [row for run in bench.reader.runs()[:3] for row in _facts(run)]
    if not rows:
        return el("p.side", "No run has recorded its models yet.")
    return table(["Run", "Part", "Name", "Version", "SHA-256"], rows, caption="Cards")


def _facts(run: Run) -> list[list[Node]]:
    model = str(table_of(run.settings, "model").get("name", ""))
    rows: list[list[Node]] = []
    if sha256 := run.facts.get("model_sha256"):
        # What a run recorded may be anything, a list that would pass for a part of the page too.
        dtype = str(run.facts.get("dtype", ""))
        rows.append([run.title, "model", model, dtype, el("code", str(sha256))])
    for part, value in run.facts.items():
        entries = value if isinstance(value, list) else [value]
        rows += [
            [run.title, part, str(e.get("name", "")), str(e.get("version", "")),
             el("code", str(e.get("sha256", "")))]
            for e in entries
            if isinstance(e, dict)
        ]  # fmt: skip
    return rows


def _build(bench: Workbench, wire: Wire) -> None:
    view(title("About"))
    body = view()

    def show(visit: Visit) -> Node:  # noqa: ARG001
        return page(bench)

    wire.on_load(show, outputs=[body])


PAGES.add("about")(Page("About", "about", 80, _build))
