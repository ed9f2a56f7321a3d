"""Token values computed on demand: of a rollout, a typed text, a text with a token exchanged."""

from typing import Any
from urllib.parse import urlencode

from acft.errors import ConfigError
from acft.inference.limits import bounded
from acft.store.queries.rollouts import rollout
from acft.store.queries.tokens import guidance
from acft.ui.page import Visit, Workbench
from acft.ui.parts.live import ask, may_compute, trained, version_menu
from acft.ui.parts.live_compare import other_version, version_of
from acft.ui.reading.reader import Run
from acft.ui.reading.tokens import payload
from acft.ui.web.dom import Node, act, el

Request = dict[str, Any]
"""What was asked last: the run, prompt and response as texts or ids, how much is the reader's, and
whether it is a text of the list as it is, and then which one."""


TEXT = ("prompt", "response", "prompt_ids", "response_ids")
LONGEST_ADDRESS = 4000
"""Characters of an address that every browser and proxy takes."""
COMPUTE = "Compute the values now"


def of_stored(bench: Workbench, run: Run, sequence: str) -> Request:
    """The request for a stored text: a rollout, or a text of the corpus with token values.

    Raises:
        ConfigError: There is no such text, or its first token was not stored.
    """
    found = rollout(bench.store, run.run_id, sequence)
    if found is not None:
        ids = [int(token) for token in found["response_ids"]]
        return {"run": run.run_id, "prompt": str(found["prompt_text"]), "response_ids": ids,
                "is_stored": True, "sequence": sequence}  # fmt: skip
    rows = guidance(bench.store, run.run_id, sequence).records()
    if not rows:
        raise ConfigError(f"there is no text {sequence!r} with token values in this run")
    if rows[0]["position"] != 0:
        raise ConfigError(
            f"the first token of text {sequence!r} was not stored by the version of this program "
            "that ran it; start the run again to look at its corpus under other checkpoints"
        )
    ids = [int(row["token_id"]) for row in rows]
    start = next((row["position"] for row in rows if row["in_loss"]), 1)
    return {"run": run.run_id, "prompt_ids": ids[:start], "response_ids": ids[start:],
            "is_stored": True, "sequence": sequence}  # fmt: skip


def of_text(run: Run, prompt: str, response: str) -> Request:
    """The request for a typed text.

    Raises:
        ConfigError: There is no response.
        DataError: One of the two is too long; models need not be opened to say so.
    """
    if not response.strip():
        raise ConfigError("type a response to be scored after the prompt")
    return {"run": run.run_id, "prompt": bounded("prompt", prompt),
            "response": bounded("response", response)}  # fmt: skip


def scored(
    bench: Workbench, visit: Visit, run: Run, request: Request
) -> tuple[dict[str, Any], Request]:
    """The values of a request's text under the chosen version, and the request with its tokens."""
    fields = {name: value for name, value in request.items() if name in TEXT}
    found = ask(bench, visit, "score", run, version=version_of(visit, run), **fields)
    typed = request.get("typed", request.get("response"))
    everything = len(found["prompt_ids"]) + len(found["response_ids"])
    value, kept = _shown(found, request, request.get("own", 0 if typed is None else everything))
    kept["is_stored"] = request.get("is_stored", False)
    if "sequence" in request:
        kept["sequence"] = request["sequence"]
    return value, kept if typed is None else kept | {"typed": typed}


def branched(
    bench: Workbench, visit: Visit, run: Run, request: Request
) -> tuple[dict[str, Any], Request]:
    """The values after one token was exchanged and the policy went on from there."""
    if "weights" not in request:
        raise ConfigError("compute the values of a text first, then choose another token in it")
    found = ask(
        bench, visit, "branch", run, version=version_of(visit, run), prompt=request["prompt"],
        prompt_ids=request["prompt_ids"], response_ids=request["response_ids"],
        token=int(visit.data["id"]),
        place=int(visit.data["position"]) - len(request["prompt_ids"]),
    )  # fmt: skip
    return _shown(found, request, min(request.get("own", 0), int(visit.data["position"])))


def _shown(found: dict[str, Any], request: Request, own: int) -> tuple[dict[str, Any], Request]:
    worst = max(found["scores"].values(), default=None)
    value = payload(
        found["rows"], name="live", toxicity=worst, can_branch=True,
        start=len(found["prompt_ids"]), first=str(found.get("first", "")), own=own,
    )  # fmt: skip
    kept = {name: found[name] for name in ("prompt", "prompt_ids", "response_ids", "weights")}
    return value, {**kept, "run": request["run"], "own": own, "is_stored": False}


def about_computed(visit: Visit, run: Run, request: Request) -> Node:
    """What stands above values that a request gave: heading, checkpoint, address."""
    under = scrubber(visit, run, request["weights"])
    return el("div", el("h2", "A text computed now"), under, address(visit, request))


def scrubber(visit: Visit, run: Run, weights: dict[str, Any]) -> Node:
    """Which checkpoint looks at the text, and the weights behind the three distributions."""
    chosen = version_of(visit, run)
    menu = version_menu(run, chosen, "base", **act("again"))
    return el(
        "div",
        other_version(visit, run),
        el("p.side", "Values computed on demand under ", menu,
           " · click an alternative in the pop-up to exchange a token of the response."),
        el("p.side", _weights("base", weights["base"]), _weights("tuned", weights["tuned"]),
           el("span.chip.guided", _guided(weights, chosen))),
    )  # fmt: skip


def address(visit: Visit, request: Request) -> Node | None:
    """A link that brings the text back, to be computed again with one click.

    None where a token was exchanged, and for texts too long for an address.
    """
    if "sequence" in request:
        version = str(request["weights"]["tuned"]["version"])
        names = {"run": request["run"], "sequence": request["sequence"], "live_version": version}
        return el("p.side", el("a", "Address of this text", href=f"tokens?{urlencode(names)}"),
                  f": the stored text, where “{COMPUTE}” gives these values again.")  # fmt: skip
    if "typed" not in request:
        return None
    fields = {"run": request["run"], "prompt": request["prompt"], "response": request["typed"]}
    if "live_version" in visit.query:
        fields["live_version"] = visit.query["live_version"]
    link = f"tokens?{urlencode(fields)}"
    if len(link) > LONGEST_ADDRESS:
        return None
    return el("p.side", el("a", "Address of this text", href=link))


def _weights(name: str, facts: dict[str, Any]) -> list[Node]:
    digest = str(facts["sha256"])
    chip = el(f"span.chip.{name}", f"{name} {facts['version']}" if facts["version"] else "base")
    return [chip, " ", el("code", f"sha256 {digest[:12]}…", title=digest), " "]


def _guided(weights: dict[str, Any], version: int) -> str:
    anchor = weights["guided"]
    if anchor is None:
        return "nothing guides this version"
    whom = f"version {anchor}" if anchor else "the base"
    return f"guided: {whom} under the oracle of version {version}, as in training"


def offer(bench: Workbench, visit: Visit, run: Run) -> Node | None:
    """The button that computes values which were not stored."""
    policies = trained(bench, run)
    if not may_compute(bench, visit) or policies is None or not policies.history.rounds:
        return None
    return el("button.do", COMPUTE, type="button", **act("compute"))
