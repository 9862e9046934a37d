"""Words and regular expressions in the files below a root."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kickwheel.agents.tools import matching, text
from kickwheel.agents.tools.root import Root
from kickwheel.agents.tools.threads import in_thread
from kickwheel.agents.tools.tool import InvalidArguments, Limits, safe, takes
from kickwheel.agents.tools.tree import Pattern, walk
from kickwheel.core.errors import ToolError
from kickwheel.records import ToolSpec

MOST_BYTES = 20_000_000
"""Of a file that is searched; longer ones are named in the result and left out."""
FOUND = 100
"""Lines in one answer."""
LINE_CHARS = 300
SAMPLE = 8192

Lines = Callable[[str], list[int]]
"""The numbers of the lines of a text that are meant, from 1."""


class Search:
    """Finds lines."""

    def __init__(self, name: str, root: Root, limits: Limits, encoding: str | None) -> None:
        self.spec = ToolSpec(
            name=safe(name),
            description="Finds lines in the files of the folder, whatever their case. Gives "
            "path:line: text.",
            parameters=takes(
                "text",
                text={"type": "string", "minLength": 1, "description": "What to find."},
                regex={
                    "type": "boolean",
                    "default": False,
                    "description": "Whether `text` is a regular expression.",
                },
                files={
                    "type": "string",
                    "default": "**",
                    "description": "Pattern of the files: `*.csv`, `2024/**/*.txt`.",
                },
                start={
                    "type": "integer",
                    "minimum": 0,
                    "default": 0,
                    "description": "Hit to start from, to read on in a longer answer.",
                },
            ),
        )
        self.limits = limits
        self._root, self._encoding = root, encoding

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """The lines, and which files were left out.

        Raises:
            InvalidArguments: the regular expression is none.
            ToolError: it takes too long.
        """
        over = threading.Event()
        deadline = time.monotonic() + self.limits.timeout_s * 0.9
        words = arguments["text"]

        def run() -> str:
            finding = _matching(words, over, deadline) if arguments.get("regex") else _plain(words)
            with finding as lines:
                return self._found(lines, arguments, lambda: _check(over, deadline))

        try:
            return await in_thread(run)
        finally:
            over.set()

    def _found(self, lines: Lines, asked: Mapping[str, Any], check: Callable[[], None]) -> str:
        start = asked.get("start") or 0
        found: list[str] = []
        skipped: list[str] = []
        hits = 0
        pattern = asked.get("files") or "**"
        for entry in walk(self._root, "", Pattern(pattern if "/" in pattern else f"**/{pattern}")):
            check()
            if entry.kind != "file":
                continue
            if entry.size > MOST_BYTES:
                skipped.append(entry.path)
                continue
            content = self._text(entry.path)
            numbers = lines(content) if content else []
            split = content.splitlines() if numbers else []
            for number in numbers:
                hits += 1
                if hits > start + FOUND:
                    more = f"({FOUND} lines from hit {start} on; ask again with start={hits - 1})"
                    return "\n".join([*found, more])
                if hits > start:
                    found.append(f"{entry.path}:{number}: {_cut(split[number - 1].strip())}")
        if not found:
            found.append("nothing found")
        if skipped:
            found.append(f"(not searched, over {MOST_BYTES:,} bytes: {', '.join(skipped[:20])})")
        return "\n".join(found)

    def _text(self, path: str) -> str:
        """The file as text; empty where it is none, or gone."""
        try:
            with self._root.file(path) as handle, open(handle, "rb", closefd=False) as opened:
                data = opened.read(MOST_BYTES + 1)
        except (InvalidArguments, OSError):
            return ""
        return text.decoded(data, self._encoding) if text.is_text(data[:SAMPLE]) else ""


@contextmanager
def _plain(words: str) -> Iterator[Lines]:
    wanted = words.casefold()

    def find(content: str) -> list[int]:
        if wanted not in content.casefold():
            return []
        lines = enumerate(content.splitlines(), 1)
        return [number for number, line in lines if wanted in line.casefold()]

    yield find


@contextmanager
def _matching(expression: str, over: threading.Event, deadline: float) -> Iterator[Lines]:
    """The search in a process of its own, which ends when nobody waits any more."""
    if "\0" in expression:
        raise InvalidArguments("a regular expression cannot hold a zero byte")
    program = [sys.executable, "-I", "-S", str(Path(matching.__file__)), expression]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                if over.is_set() or time.monotonic() >= deadline:
                    child.kill()
                    return

        threading.Thread(target=watch, daemon=True).start()
        assert child.stdin is not None
        assert child.stdout is not None
        given, told = child.stdin, child.stdout

        def line() -> str:
            answer = told.readline().decode("utf-8", "replace")
            if not answer:
                _check(over, deadline)
                raise ToolError("the search ended by itself")
            return answer.strip()

        def find(content: str) -> list[int]:
            data = content.encode("utf-8", "replace")
            try:
                given.write(len(data).to_bytes(4, "big") + data)
                given.flush()
            except BrokenPipeError:
                pass  # Then there is no answer either, and `line` says why.
            return [int(number) for number in line().split()]

        try:
            said = line()
            if said != "ok":
                raise InvalidArguments(f"the regular expression cannot be read: {said}")
            yield find
        finally:
            done.set()
            child.kill()


def _check(over: threading.Event, deadline: float) -> None:
    if over.is_set() or time.monotonic() >= deadline:
        raise ToolError(
            "the search took too long: name fewer files, or a simpler expression", lasting=True
        )


def _cut(line: str) -> str:
    return line if len(line) <= LINE_CHARS else f"{line[:LINE_CHARS]}…"
