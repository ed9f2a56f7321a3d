"""What surrounds every page: navigation, mode, title, content notice."""

import acft
from acft.ui.page import Page, Wire, Workbench
from acft.ui.parts.demonstration import reason, way_out
from acft.ui.web.dom import Node, act, el, view

NOTICE = (
    "Texts here come from language models and may be offensive. What a scorer calls toxic is "
    "blurred until you ask for it; a score is a detector's opinion, not the truth."
)


def header(page: Page, pages: list[Page], bench: Workbench, wire: Wire) -> None:
    """Navigation, and what this browser may do."""
    view(_navigation(page, pages), elem_classes="frame")
    mode = view(_mode(bench, may_change=True), elem_classes="frame")
    wire.on_load(lambda visit: _mode(bench, may_change=visit.may_change), outputs=[mode])


def _navigation(page: Page, pages: list[Page]) -> Node:
    links = [
        el(
            "a", other.title, href=other.route or "./", data_carry=True,
            aria_current="page" if other is page else None,
        )
        for other in pages
    ]  # fmt: skip
    return el(
        "header.top",
        el("button.skip", "Skip to content", type="button", data_do="skip"),
        el("a.brand", el("span.mark", "A", aria_hidden="true"), el("span", "ACFT workbench"),
           href="./"),
        el("nav", links, aria_label="Pages"),
        el(
            "div.tools",
            el("button.quiet", "Toxic text: blurred", type="button", data_do="reveal",
               data_reveal_all=True, aria_pressed="false"),
            el("button.quiet", "Theme: system", type="button", data_do="theme", data_theme=True),
        ),
    )  # fmt: skip


def _mode(bench: Workbench, *, may_change: bool) -> Node:
    """All that a visitor must know of what works here and what does not."""
    notices: list[Node] = []
    obstacle = bench.control.obstacle()
    if bench.bind.is_demo:
        why = reason(bench.bind), " ", way_out(bench.bind)
        notices.append(el("div.mode", el("b", "Read-only. "), *why))
    elif obstacle:
        again = "Load the page again to see whether it has."
        why = f"{obstacle[:1].upper()}{obstacle[1:]}. {again}"
        notices.append(el("div.mode.warn", el("b", "Read-only. "), why))
    elif not may_change:
        why = "To launch or stop runs, open the address the terminal printed (it ends in ?token=…)."
        notices.append(el("div.mode.warn", el("b", "Read-only. "), why))
    if bench.ingester.problem:
        notices.append(
            el("div.mode.warn", el("b", "The database lags behind: "), bench.ingester.problem,
               " The runs themselves are not affected.")
        )  # fmt: skip
    return el("div", notices or el("div", class_="mode none"))


def title(page_title: str, about: str = "") -> Node:
    """The page's heading."""
    return el("div.title", el("h1", page_title), el("p", about) if about else None)


def footer(bench: Workbench) -> None:
    """Version, place of the runs, content notice."""
    where = "recorded" if bench.bind.is_demo else f"in {bench.reader.runs_dir.name}/"
    view(
        el(
            "footer.bottom",
            el("span", f"ACFT workbench {acft.__version__} · runs {where}"),
            el("span", NOTICE),
        ),
        elem_classes="frame",
    )


def empty(headline: str, *advice: Node) -> Node:
    """An empty state that says what to do."""
    return el("div.nothing", el("p.head", headline), [el("p", line) for line in advice])


def underway(what: str, event: str) -> Node:
    """What a long action is at, for how long, and the button whose ``event`` ends it."""
    return el(
        "p.underway",
        el("b", f"{what} … ", role="status"),
        el("span.side", data_ticking=True),
        " ",
        el("button.do", "Stop", type="button", **act(event)),
        key=what,
        data_show=True,
    )
