"""What a terminal shows: tables, progress, and JSON for programs."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from click.core import ParameterSource


def an_app(context: click.Context, app: Path | None, how: str = "APP") -> Path:
    """The app that was named; the current folder, where none was and an app is there.

    Args:
        how: how an app would be named.
    Raises:
        UsageError: none was, and none is.
    """
    if app is not None:
        return app
    if any((Path() / file).exists() for file in ("app.yml", "snapshot.json")):
        return Path()
    raise click.UsageError(
        "there is no app.yml in this folder. Name the app, its file or folder: "
        f"{context.command_path} {how}",
        context,
    )


def _an_app(context: click.Context, parameter: click.Parameter, app: Path) -> Path:
    named = context.get_parameter_source(str(parameter.name)) is not ParameterSource.DEFAULT
    how = "… --app APP" if isinstance(parameter, click.Option) else "APP"
    return an_app(context, app if named else None, how)


app_argument = click.argument(
    "app",
    type=click.Path(exists=True, path_type=Path),
    default=Path(),
    metavar="[APP]",
    callback=_an_app,
)
"""The app file, or the folder that holds `app.yml`; by default the current folder."""

app_option = click.option(
    "--app",
    type=click.Path(exists=True, path_type=Path),
    default=Path(),
    callback=_an_app,
    help="The app file, or its folder; by default app.yml of this folder.",
)
"""The same where the argument is something else."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def show_json(value: object) -> None:
    """The record or plain value as indented JSON on standard output."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value, enc_hook=str)).decode())


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Aligned columns under a header; numbers to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [
        max(len(column), *(len(row[i]) for row in cells)) if cells else len(column)
        for i, column in enumerate(header)
    ]
    right = [all(_is_number(row[i]) for row in cells) for i in range(len(header))]

    def line(values: Sequence[str]) -> str:
        aligned = (
            value.rjust(width) if to_right else value.ljust(width)
            for value, width, to_right in zip(values, widths, right, strict=True)
        )
        return "  ".join(aligned).rstrip()

    rule = "  ".join("─" * width for width in widths)
    return "\n".join([line(list(header)), rule, *(line(row) for row in cells)])


class Progress:
    """One line that is rewritten; on anything but a terminal a line every ten seconds."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._terminal = sys.stderr.isatty()
        self._started = self._shown = time.monotonic()
        self._drawn = 0.0

    def update(self, done: float, total: float, note: str = "") -> None:
        """Shows `done` of `total`, with a note behind."""
        now = time.monotonic()
        last = done >= total
        if now - self._drawn < (0.1 if self._terminal else 10.0) and not last:
            return
        self._drawn = now
        share = min(1.0, done / total) if total else 1.0
        if self._terminal:
            full = round(share * 24)
            bar = "█" * full + "░" * (24 - full)
            click.echo(f"\r\033[K{self.title} {bar} {share:4.0%}  {note}", nl=False, err=True)
        else:
            click.echo(f"{self.title} {share:4.0%}  {note}", err=True)

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._terminal:
            click.echo("\r\033[K", nl=False, err=True)
        click.echo(text, err=True)


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Progress of long work on standard error, gone when the block ends."""
    shown = Progress(title)
    try:
        yield shown
    finally:
        if sys.stderr.isatty():
            click.echo("\r\033[K", nl=False, err=True)


def _is_number(cell: str) -> bool:
    return bool(cell) and cell.strip("%+-.,0123456789 s×[]–").strip() == ""
