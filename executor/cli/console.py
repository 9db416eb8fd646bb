"""`headrace console`: the private HTTP service for API users."""

from __future__ import annotations

import contextlib

import rich_click as click
import uvicorn

from executor.cli.processes import BACKLOG, GRACE, Server, begin, listener_on


@click.command()
@click.option("--host", help="The address to listen on.  [console_host, 127.0.0.1]")
@click.option("--port", type=int, help="The port to listen on; 0 lets the system pick.  [console_port, 8081]")
def console(host: str | None, port: int | None) -> None:
    """Run the private HTTP service: start runs, steer them, publish workflows. `headrace keys add` lets people in."""
    from executor.console.app import create_console  # noqa: PLC0415 - no other process pays for the web framework

    settings, telemetry = begin("headrace-console", console_host=host, console_port=port)
    listener = listener_on("console", settings.console_host, settings.console_port)
    app = create_console(settings)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        lifespan="on",
        ws="auto",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        log_config=None,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE,
    )
    with listener, contextlib.closing(telemetry):
        Server(config, "console", app.state.hub.end).run(sockets=[listener])
