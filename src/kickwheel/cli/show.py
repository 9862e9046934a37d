"""What a terminal shows: tables, progress, and JSON for programs."""

import inspect
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

_APP_FILES = ("app.yml", "snapshot.json")


def app_argument(verb: Callable[..., object], *, needed: bool = True) -> Callable[..., object]:
    """Gives a verb its app: the first word, which may be left out where an app is in this folder.

    Args:
        needed: whether without any the verb says how to name one; else it gets `None`.
    """
    about = "APP is the app file, or the folder of an app.yml; left out, it is this folder."
    verb.__doc__ = f"{inspect.cleandoc(verb.__doc__ or '')}\n\n{about}"
    return click.argument(
        "app",
        type=click.Path(path_type=Path),
        # All words but the last few, which are the verb's own: so the app may be left out.
        nargs=-1,
        metavar="[APP]",
        callback=_named if needed else _named_if_any,
    )(verb)


def no_app_here(context: click.Context) -> click.UsageError:
    """None was named, and none is in this folder."""
    words = " ".join(context.command.collect_usage_pieces(context)[1:]).replace("[APP]", "APP")
    return click.UsageError(
        "there is no app.yml in this folder. Name the app, its file or folder: "
        f"{context.command_path} {words}",
        context,
    )


def _named(context: click.Context, parameter: click.Parameter, words: tuple[Path, ...]) -> Path:
    app = _named_if_any(context, parameter, words)
    if app is None and Path(".kickwheel").is_dir():
        return Path()  # Of the recorder, which needs no app; verbs that do say so.
    if app is None:
        raise no_app_here(context)
    return app


def _named_if_any(
    context: click.Context, parameter: click.Parameter, words: tuple[Path, ...]
) -> Path | None:
    if not words:
        return Path() if any(Path(file).exists() for file in _APP_FILES) else None
    app, *loose = words
    if not app.exists():
        told = (
            f'there is no file or folder "{app}"; APP is an app file, or the folder of an app.yml'
        )
        raise click.UsageError(f"{told}. What has spaces is quoted." if loose else told, context)
    if loose:
        text = " ".join(str(word) for word in loose)
        raise click.UsageError(
            "there are more words than it takes. What has spaces is quoted: "
            f'{context.command_path} {quoted(app)} "{text} …"',
            context,
        )
    return app


def quoted(path: Path) -> str:
    """The path as a shell takes it."""
    return shlex.quote(str(path))


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
