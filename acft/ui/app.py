"""Assembles the pages and starts the server; the only ``launch``."""

import argparse
import atexit
import errno
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before Gradio is imported

import gradio as gr
import plotly
from starlette.middleware import Middleware
from starlette.responses import FileResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from acft.errors import AcftError, ConfigError, DataError
from acft.inference.client import Inference
from acft.runs.devices import devices
from acft.runs.directory import all_runs
from acft.runs.ownership import owner
from acft.runs.recording import check, copy_out
from acft.runs.supervisor import Supervisor
from acft.store.connection import (
    Store,
    StoreDamagedError,
    StoreLockedError,
    open_memory_store,
    open_store,
)
from acft.store.ingest import Ingester, Retention
from acft.store.rebuild import rebuild
from acft.ui.control import Control
from acft.ui.options import DEMO_RUNS, Options, configure, from_arguments
from acft.ui.page import PAGES, Page, Wire, Workbench
from acft.ui.parts import frame
from acft.ui.reading.reader import Reader
from acft.ui.web.absent import absent
from acft.ui.web.dom import ASSETS
from acft.ui.web.guard import LOOPBACK, Bind, Gate, Guard, check_bind, launch_token, read_auth
from acft.ui.web.theme import theme

LOG = logging.getLogger(__name__)
STATIC = Path(__file__).parent / "static"
PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def workbench(options: Options) -> Workbench:
    """What the pages share.

    Raises:
        ConfigError: The bind is unsafe, or the launch token cannot be kept safe.
        DataError: A recorded run that a demonstration shows was altered.
        StoreError: The database cannot be opened.
    """
    bind = options.bind
    check_bind(bind)
    runs = options.runs.resolve()
    if bind.is_demo and (bind.is_space or not all_runs(runs)):
        check(DEMO_RUNS)
        runs = DEMO_RUNS
    if not bind.is_demo:
        bring_recorded(DEMO_RUNS, runs)
    # Nobody can know a demonstration's token, so nothing that needs one can happen there.
    token = secrets.token_hex(32) if bind.is_demo else launch_token(runs)
    gate = Gate(token, cookie=f"acft_token_{options.port}")
    device = devices()[0].name
    reader = Reader(runs)
    settings_process = Inference("cpu")
    model_process, rehearsal_process = Inference(device), Inference(device)
    give_way = partial(_give_way, (model_process, rehearsal_process))
    supervisor = None if bind.is_demo else Supervisor(runs, make_room=give_way)
    is_ours = supervisor is not None and supervisor.start()
    # Only the process that supervises the runs may write the database file.
    store = _own_store(runs) if is_ours else open_memory_store(runs)
    better = partial(_file_instead, store, supervisor)
    ingester = Ingester(store, Retention(options.guidance_rounds), better=better)
    ingester.start()
    return Workbench(
        reader=reader,
        gate=gate,
        bind=bind,
        experiments=options.experiments.resolve(),
        store=store,
        ingester=ingester,
        control=Control(
            reader, settings_process, partial(_elsewhere, runs, supervisor), options.quota_bytes
        ),
        settings_process=settings_process,
        model_process=model_process,
        rehearsal_process=rehearsal_process,
        supervisor=supervisor,
    )


def _give_way(processes: Sequence[Inference], place: str, run_id: str) -> None:
    """Models for live results give way before a run starts; they come back when asked for."""
    for process in processes:
        if process.device == place:
            process.close(f"run {run_id} was to start on {place}")


def _own_store(runs: Path) -> Store:
    """The database; one that is damaged is made again from the runs' files, which lose nothing."""
    try:
        return open_store(runs)
    except StoreDamagedError as error:
        LOG.warning("%s\nMaking it again from the files of the runs.", error)
        rebuild(runs, may_miss_runs=True)
        return open_store(runs)


def _file_instead(store: Store, supervisor: Supervisor | None) -> Store | None:
    """The database file, once this process may write it and keeps its rows in memory only."""
    if supervisor is None or not (store.is_in_memory and supervisor.is_owner):
        return None
    try:
        return _own_store(store.root)
    except StoreLockedError:
        return None  # who had it before us, or a command, is about to close it


def bring_recorded(recorded: Path, runs: Path) -> list[str]:
    """Ids of recorded runs copied into an empty runs directory; none when they were altered."""
    try:
        return copy_out(recorded, runs)
    except DataError as error:
        LOG.warning("%s", error)
        return []


def _elsewhere(runs: Path, supervisor: Supervisor | None) -> str:
    """Who else supervises the runs; empty when we do."""
    if supervisor is None:
        return "nobody"
    if supervisor.is_owner:
        return ""
    current = owner(runs)
    return current.label if current else "a process that is going"


def in_order() -> list[Page]:
    """All pages, as the navigation names them."""
    return sorted((page for _, page in PAGES.items()), key=lambda page: page.order)


def build(bench: Workbench) -> gr.Blocks:
    """All pages as one Gradio application."""
    wire = Wire(bench)
    pages = in_order()
    blocks = gr.Blocks(title="ACFT workbench", analytics_enabled=False, fill_width=True)
    for page in pages:
        with blocks if page.route == "" else blocks.route(page.title, f"/{page.route}"):
            _build_page(page, pages, bench, wire)
    blocks.acft_wire = wire  # pyright: ignore[reportAttributeAccessIssue]
    return blocks


def _build_page(page: Page, pages: list[Page], bench: Workbench, wire: Wire) -> None:
    frame.header(page, pages, bench, wire)
    with gr.Column(elem_classes="page", elem_id="content"):
        page.build(bench, wire)
    frame.footer(bench)


def launch(bench: Workbench, options: Options) -> gr.Blocks:
    """The running application; returns at once."""
    _give_gradio_a_folder()
    served = {**settings(bench.bind), "server_port": check_port(bench.bind)}
    blocks = build(replace(bench, served=served))
    blocks.queue(default_concurrency_limit=4, api_open=False, max_size=64)
    blocks.launch(
        **served,
        auth=read_auth(options.auth_file) if options.auth_file else None,
        theme=theme(),
        head=f'<link rel="stylesheet" href="{ASSETS}/acft.css">',
        app_kwargs=app_arguments(bench),
        prevent_thread_lock=True,
    )
    return blocks


def _give_gradio_a_folder() -> None:
    """Sets a folder for files Gradio hands out, unless one is set; it goes with this process."""
    if "GRADIO_TEMP_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="acft-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["GRADIO_TEMP_DIR"] = folder


def settings(bind: Bind) -> dict[str, Any]:
    """Switches of Gradio's ``launch``: nothing stored, nothing sent, nothing shared."""
    return {
        "server_name": bind.host,
        "server_port": bind.port,
        "share": False,
        "inbrowser": False,
        "quiet": True,
        "show_error": False,
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "strict_cors": True,
        "mcp_server": False,
        "ssr_mode": False,
        "pwa": False,
        "allowed_paths": [],
        "max_file_size": "1mb",
        "state_session_capacity": 200,
        "max_threads": 20,
    }


def app_arguments(bench: Workbench) -> dict[str, Any]:
    """What stands in front of Gradio: the guard, and our own static files."""
    return {
        "middleware": [Middleware(Guard, gate=bench.gate, bind=bench.bind)],
        "routes": [
            Route(f"/{ASSETS}/plotly.min.js", lambda _: FileResponse(PLOTLY)),
            Mount(f"/{ASSETS}", StaticFiles(directory=STATIC)),
        ],
        "exception_handlers": {404: absent({page.route: page.title for page in in_order()})},
        "openapi_url": None,
    }


def main(arguments: list[str] | None = None) -> int:
    """Serves the workbench until interrupted; the exit code."""
    parser = argparse.ArgumentParser(prog="acft serve", description="Start the workbench.")
    configure(parser)
    given = parser.parse_args(arguments)
    try:
        return serve(from_arguments(given))
    except ConfigError as error:
        parser.error(str(error))


def serve(options: Options) -> int:
    """Serves until interrupted; 2 with one sentence when that is not possible or not safe."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped service closes too
    try:
        options = replace(options, port=check_port(options.bind))
        with closing(workbench(options)) as bench:
            if bench.bind.is_space:
                bench.obtaining.start()
            blocks = launch(bench, options)
            announce(bench, blocks, options)
            blocks.block_thread()
    except KeyboardInterrupt:
        return 0
    except (AcftError, OSError) as error:
        LOG.error("%s", error)  # noqa: TRY400 - the sentence is the message
        return 2
    return 0


def check_port(bind: Bind) -> int:
    """The port, if one may listen there; for 0 any that is free.

    Raises:
        ConfigError: Somebody else listens at the port, or it or the host may not be listened at.
    """
    with socket.socket(socket.AF_INET6 if ":" in bind.host else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((bind.host, bind.port))
            return int(trial.getsockname()[1])
        except OSError as error:
            place, reason = f"port {bind.port} of {bind.host}", error.strerror
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(f"{place} is in use; give another with --port") from None
            raise ConfigError(
                f"cannot listen at {place}: {reason}; give another with --port and --host"
            ) from None


def announce(bench: Workbench, blocks: gr.Blocks, options: Options) -> None:
    """Says where the workbench is; the address with the token is for this user only."""
    address = str(blocks.local_url).rstrip("/")
    if bench.bind.is_demo:
        LOG.info("ACFT workbench (read-only demonstration): %s", address)
        return
    obstacle = bench.control.obstacle()
    if obstacle:
        LOG.info("ACFT workbench, read-only for now: %s.", obstacle)
    private = f"{address}/?token={bench.gate.token}"
    LOG.info("ACFT workbench: %s\nTo launch and change runs, open: %s", address, private)
    if bench.bind.hosts:
        LOG.info(
            "Browsers may also ask for %s; to change runs there, end the address in /?token=… too.",
            ", ".join(bench.bind.hosts),
        )
    if options.open_browser and not obstacle and bench.bind.host in LOOPBACK:
        webbrowser.open(private)


if __name__ == "__main__":
    sys.exit(main())
