"""The `headrace` command: the table of its subcommands, and what becomes of their errors.

An error is one clear line on stderr and exit status 1 (2 when the command was typed wrong); a trace is shown
only with `headrace --debug …`. A subcommand's module is imported when it is called, so that `headrace --help`
is quick and a command that speaks to nobody loads no driver.
"""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version

import rich_click as click

from events.errors import ConfigError, HeadraceError

_PROCESSES = ("ingest", "console", "worker", "relay", "migrate")
_COMMANDS = {
    "dev": ("dev", "Run everything on this machine, until Ctrl-C; data stays in ./.headrace."),
    "demo": ("demo", "Watch webhooks survive a killed worker and a flushed Redis, then check every one."),
    "apply": ("apply", "Make sources, endpoints and workflows what these files say."),
    "workflows": ("workflows", "Look at workflows: versions, documents, graphs; the schema for editors."),
    "providers": ("providers", "List the providers whose webhooks a source can take."),
    "send": ("send", "Post signed webhooks to a source, as a sender would."),
    "events": ("history", "List deliveries, or show all that happened to one."),
    "runs": ("history", "List runs, or show all that happened in one."),
    "rejected": ("rejected", "Look at refused requests; check them again and admit those that pass."),
    "spool": ("spooled", "Look at deliveries that wait in this machine's spool, or were refused there."),
    "secrets": ("secrets", "List the secrets, never their values, and seal them by a new key."),
    "cache": ("cache", "Empty the cache of nodes' results."),
    "keys": ("keys", "Make, list and revoke API keys."),
    "limits": ("limits", "Say what calls of llm, search or any class may cost."),
    "usage": ("limits", "Show what calls with a cost class came to."),
    "workspaces": ("workspaces", "List workspaces, make them, and say how much each may do at once."),
    "queues": ("watching", "List the queues: what is due, and for how long."),
    "workers": ("watching", "List the workers: what they hold, and whether they can take more."),
    "replay": ("replay", "Take a delivery or a run through its workflows again."),
    "cancel": ("control", "End runs now, and undo what they did."),
    "pause": ("control", "Let runs start no further node."),
    "resume": ("control", "Let paused runs go on."),
    "retry": ("control", "Have failed runs go on where they failed."),
    "approve": ("control", "Answer a run that waits for a person's decision."),
    "fork": ("forking", "Start a new run from a node of an old one."),
    "rerun": ("forking", "Start a run's workflow again with an edited body or input."),
    "ingest": ("processes", "Run the public HTTP service that receives webhooks."),
    "console": ("console", "Run the private HTTP service for API users."),
    "worker": ("processes", "Run a worker that carries out workflows."),
    "relay": ("processes", "Run the relay, which rings for work that is due."),
    "migrate": ("processes", "Bring the database to the newest schema."),
    "version": ("version", "Print the version."),
}
"""Name -> (module below `executor.cli`, summary). The command is the module's attribute of the same name."""

click.rich_click.COMMAND_GROUPS = {
    "headrace": [
        {"name": "On this machine", "commands": ["dev", "demo"]},
        {
            "name": "Look and act",
            "commands": [
                "apply",
                "workflows",
                "providers",
                "send",
                "events",
                "runs",
                "replay",
                "rejected",
                "spool",
                "secrets",
                "cache",
                "workspaces",
                "keys",
                "limits",
                "usage",
                "queues",
                "workers",
            ],
        },
        {
            "name": "Have a say in runs",
            "commands": ["cancel", "pause", "resume", "retry", "approve", "fork", "rerun"],
        },
        {"name": "Processes", "commands": list(_PROCESSES)},
        {"name": "About", "commands": ["version"]},
    ]
}


class Options:
    """What the global options said."""

    debug = False


class _Commands(click.RichGroup):
    """The subcommands by name; what help needs of one is in the table, and calling it loads it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        return click.RichCommand(name=cmd_name, help=_COMMANDS[cmd_name][1])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _COMMANDS:
            if name.startswith("-"):
                raise click.NoSuchOption(name, ctx=ctx)
            close = difflib.get_close_matches(name, _COMMANDS, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise click.UsageError(f"no such command {name!r}{hint}", ctx)
        module = importlib.import_module(f"executor.cli.{_COMMANDS[name][0]}")
        command: click.Command = getattr(module, name)
        return name, command, args[1:]


def _debug(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        ctx.ensure_object(Options).debug = True


def _version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"headrace {version('headrace')}")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, expose_value=False, callback=_debug, help="Show an error's trace.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
def cli() -> None:
    """Headrace keeps every webhook and finishes every workflow.

    Start with `headrace dev`. Settings: HEADRACE_… in the environment, or headrace.toml.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits with its status."""
    options = Options()
    try:
        status = cli.main(arguments, prog_name="headrace", standalone_mode=False, obj=options)
    except click.ClickException as error:
        _complain(_usage(error), options)
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        status = 130
    except HeadraceError as error:
        _complain(one_line(error), options)
        status = 1
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        status = 1
    except Exception as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        _complain(f"{what}; this should not happen: headrace --debug … shows where", options)
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


def one_line(error: HeadraceError) -> str:
    """An error as people read it: one line, except that several faults are a line each."""
    if isinstance(error, ConfigError) and len(error.faults) == 1:
        return f"{error.subject}: {error.faults[0]}"
    return str(error)


def _usage(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f" (see {context.command_path} --help)" if context else ""
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{message[:1].lower()}{message[1:]}{hint}"


def _complain(message: str, options: Options) -> None:
    if options.debug:
        traceback.print_exc()
    print(f"headrace: {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
