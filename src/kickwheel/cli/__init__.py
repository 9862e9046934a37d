"""The verbs on a terminal: each file parses, calls one public function and shows what came.

A verb is imported only when it runs, so that `--help` is instant.
"""

import importlib
import sys
from typing import Any

import click

VERBS = {
    "init": "Make a project around a blueprint or around traffic of your own.",
    "check": "Tell all mistakes of an app file at once.",
    "run": "Ask an agent or model one question.",
    "show": "Print the exact request that a question would first send.",
    "chat": "Talk with an agent or model.",
    "runs": "List the runs of agents: how they stand, and what they ask.",
    "answer": "Answer what a run asks a person, and go on with it.",
    "resume": "Go on with a run that its program left.",
    "cancel": "End a run.",
    "serve": "Answer over the OpenAI protocol.",
    "mcp": "Answer over MCP on standard input and output.",
    "login": "Log in at an MCP server whose tools an app uses.",
    "pull": "Get a base model, checked and kept for offline use.",
    "import": "Land traffic from a file as traces.",
    "import-nat": "Make an app of a NeMo Agent Toolkit workflow, and tell what is left to do.",
    "traces": "List traces, newest first.",
    "forget": "Delete old traces, or all that is kept of a user.",
    "export": "Write traces as OTLP, to a file or a collector.",
    "feedback": "Say of an answer whether it was right, and what would have been.",
    "curate": "Make a dataset from traces.",
    "tune": "Make an adapter from a dataset.",
    "evaluate": "Compare an adapter with what it would replace, on unseen questions.",
    "snapshot": "Pack what a report was about, immutable.",
    "turn": "Turn the whole flywheel once.",
    "promote": "Put an adapter to work, if its report's gate says so.",
    "rollback": "Put the adapter before back to work.",
    "why": "Show the way from an example or answer back to its trace, and on to each adapter.",
    "memory": "See and delete what agents remember of a person.",
    "schema": "Print the JSON Schema of the app file.",
}


class _Verbs(click.Group):
    """A group that knows its verbs without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"kickwheel.cli.{_module(cmd_name)}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            close = get_close_matches(args[0], VERBS, n=1)
            if not close:
                raise
            text = f'{error.message} Did you mean "{close[0]}"?'
            raise click.UsageError(text, ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kickwheel", message="kickwheel %(version)s")
def group() -> None:
    """The flywheel for AI agents: traffic becomes data, data tunes small specialised models, and
    the proven ones go back to work."""


def main(arguments: list[str] | None = None) -> None:
    """The program `kickwheel`: exits with 0, 1 for an error that was told, 2 for wrong usage, 130
    for an interrupt."""
    try:
        result: Any = group.main(arguments, prog_name="kickwheel", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.MissingParameter as error:
        _told(error).show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nStopped. Run the same again to go on where it stopped.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        from kickwheel.core.errors import KickwheelError

        if not isinstance(error, KickwheelError):
            raise
        notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
        click.echo(f"{click.style('error', fg='red')}: {error}{notes}", err=True)
        sys.exit(1)
    sys.exit(result if isinstance(result, int) else 0)


def _told(missing: click.MissingParameter) -> click.ClickException:
    """All words that a verb takes. Which of them is missing cannot be told: APP may be left out, so
    they are counted from the last one."""
    context = missing.ctx
    if context is None or not isinstance(missing.param, click.Argument):
        return missing
    words = [
        word.make_metavar(context)
        for word in context.command.get_params(context)
        if isinstance(word, click.Argument) and word.nargs == 1 and word.required
    ]
    text = f"{' and '.join(words)} must be given, in this order. What has spaces is quoted."
    return click.UsageError(text if len(words) > 1 else f"{words[0]} must be given.", context)


def _module(verb: str) -> str:
    return f"{verb}_" if verb in ("import", "show") else verb.replace("-", "_")
