"""Answers as they come, a line each in a file, so that a killed evaluation loses none.

A line is found again by all that the answer depends on: who answers, and the whole request. The
last line may be cut off by a kill; it is then asked again.
"""

from pathlib import Path
from typing import Any

import msgspec

from kickwheel.core.files import storage_error
from kickwheel.flywheel.evaluate.contestants import Entrant
from kickwheel.models.chat import ChatRequest
from kickwheel.records import Outcome, wire


class _Line(msgspec.Struct, frozen=True):
    key: str
    outcome: Outcome


class Answered:
    """The answers in one file; answers are only ever added."""

    def __init__(self, file: Path) -> None:
        """
        Raises:
            StoreError: the file cannot be read.
        """
        self._file = file
        self._found: dict[str, Outcome] = {}
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            data = file.read_bytes() if file.exists() else b""
            if data and not data.endswith(b"\n"):
                # What a kill cut off must not become the beginning of the next line.
                data = data[: data.rfind(b"\n") + 1]
                with file.open("r+b") as cut:
                    cut.truncate(len(data))
        except OSError as error:
            raise storage_error(error, file) from error
        for line in data.splitlines():
            try:
                read = wire.from_bytes(line, _Line)
            except ValueError:
                continue
            self._found[read.key] = read.outcome

    def get(self, key: str) -> Outcome | None:
        """The answer, if it was given; one that failed is not, so that it is asked again."""
        found = self._found.get(key)
        return found if found is not None and found.error is None else None

    def add(self, key: str, outcome: Outcome) -> None:
        """Keeps an answer.

        Raises:
            StoreError: the disk is full; the answers before are kept.
        """
        try:
            with self._file.open("ab") as file:
                file.write(wire.to_bytes(_Line(key, outcome)) + b"\n")
        except OSError as error:
            raise storage_error(error, self._file) from error
        self._found[key] = outcome


def key(entrant: Entrant, example: str, request: ChatRequest, judge: str = "") -> str:
    """Name of an answer: the same for the same question to the same contestant, judged alike."""
    asked: dict[str, Any] = {
        "contestant": entrant.name,
        "identity": entrant.identity,
        "model": entrant.model.name,
        "example": example,
        "request": request,
        "judge": judge,
    }
    return wire.digest(asked)
