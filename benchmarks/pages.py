"""How soon each page shows something, in a real browser over the store's benchmark data.

    python -m benchmarks.pages                  # writes and ingests the data first; 6 GB of disk
    python -m benchmarks.pages --runs DIR       # data left by ``benchmarks.store --folder DIR``
    python -m benchmarks.pages --scale 0.02     # a smoke test

First content is the moment the server's answer is drawn, charts the moment the first one stands;
both count from the start of the navigation, in a browser whose cache is warm. The token view is
drawn and laid out from data that are there.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acft.machine import chromium
from acft.schema import RunPaths
from acft.store.connection import open_store
from acft.store.ingest import Ingester
from benchmarks.synthetic_runs import Size, write_runs
from benchmarks.workbench import workbench

REPEATS = 5
BARS = {"first content, ms": 1500.0, "charts, ms": 3000.0, "token view, ms": 300.0}
PAGES = {
    "runs": "", "launch": "launch", "run": "run?run={run}", "tokens": "tokens?run={run}",
    "compare": "compare?run={run}", "rollouts": "rollouts?run={run}", "tradeoff": "tradeoff",
    "about": "about",
}  # fmt: skip
CHARTS = ("run", "rollouts")
"""Pages that always have charts on these data."""
DRAWN = "() => Number(document.body?.dataset.drawn || 0) > 0 && performance.now()"
CHARTED = "() => document.querySelector('.plot .main-svg') && performance.now()"
TOKENS = """() => {
  const alternatives = (i) => Array.from({ length: 10 }, (_, k) => ({
    id: k, t: ` w${i}-${k}`, b: -1 - k / 3, p: -1.1 - k / 3, q: -1.2 - k / 3 }));
  const tokens = Array.from({ length: 256 }, (_, i) => ({
    i: i + 1, id: i, t: ` w${i}`, b: -2, p: -2.1, q: -1.9, r: -0.1, k: 0.01 * (i % 7), h: 2,
    in: true, alt: alternatives(i) }));
  const host = document.createElement("div");
  host.innerHTML = '<div class="view tokens"></div>';
  document.body.append(host);
  const shown = { tokens, name: "measured", toxicity: 0, judge: "toxicity", first: "" };
  const value = JSON.stringify(shown);
  const start = performance.now();
  window.acftTokens.view(host, { value }, () => {}, () => {});
  host.getBoundingClientRect();
  const seconds = performance.now() - start;
  host.remove();
  return seconds;
}"""


def main() -> int:
    """0 when every bar is met, 1 when one is missed, whatever the scale."""
    args = _arguments()
    with tempfile.TemporaryDirectory(prefix="acft-pages-") as temporary:
        root = args.runs or _written(Path(temporary), args.scale)
        _ingest(root)
        run = max(path.name for path in root.iterdir() if RunPaths(path).events.exists())
        with workbench(root) as address:
            found = list(_measured(address, run))
    missed = False
    for page, what, milliseconds in found:
        is_missed = milliseconds > BARS[what]
        missed |= is_missed
        note = "  MISSED" if is_missed else ""
        print(f"{page:10} {what:20} {milliseconds:8.0f}  at most {BARS[what]:,.0f}{note}")
    return int(missed)


def _written(root: Path, scale: float) -> Path:
    for _ in write_runs(root, Size().scaled(scale)):
        pass
    return root


def _ingest(root: Path) -> None:
    store = open_store(root)
    Ingester(store).poll()
    store.close()


def _measured(address: str, run: str) -> Iterator[tuple[str, str, float]]:
    """Page, what was measured, and the median in milliseconds."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - for developers

    path = chromium()
    if not path:
        sys.exit("no Chromium found; install it or set ACFT_CHROMIUM to its program")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        for name, place in PAGES.items():
            target = f"{address}/{place.format(run=run)}"
            times = [_open(page, target, name in CHARTS) for _ in range(REPEATS + 1)][1:]
            for what, values in zip(BARS, zip(*times, strict=True), strict=False):
                yield name, what, statistics.median(values)
            if name == "tokens":
                drawn = [page.evaluate(TOKENS) for _ in range(REPEATS)]
                yield name, "token view, ms", statistics.median(drawn)
        browser.close()


def _open(page: Any, target: str, has_charts: bool) -> list[float]:  # noqa: FBT001
    page.goto(target, wait_until="commit")
    moments = [DRAWN, CHARTED] if has_charts else [DRAWN]
    return [page.wait_for_function(moment, timeout=60_000).json_value() for moment in moments]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, help="a runs directory that is there")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full data")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
