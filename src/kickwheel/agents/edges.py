"""Which node of a graph may run: edges, their conditions, and how far a run is."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, model_validator

START = "start"
"""Where every run begins."""


class Section(BaseModel):
    """A part of a graph as the file has it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class When(Section):
    """A condition on what the node where an edge begins said; all that is given must hold."""

    equals: str | None = None
    """The text is this, without regard to case and outer blanks."""
    contains: str | None = None
    """The text has this in it, without regard to case."""
    matches: str | None = None
    """This regular expression is found in the text."""
    key: str | None = None
    """The text is a JSON object, and the other conditions are about its value under this key;
    alone: the value is true."""
    negate: bool = False
    """The condition must not hold."""

    @model_validator(mode="after")
    def _asks(self) -> "When":
        if self.equals is self.contains is self.matches is self.key is None:
            raise ValueError("asks nothing: give equals, contains, matches or key")
        if self.matches is not None:
            try:
                re.compile(self.matches)
            except re.error as error:
                raise ValueError(f"matches: no regular expression: {error}") from error
        return self

    def holds(self, text: str) -> bool:
        """Whether the condition holds for what was said."""
        return self._holds(text) is not self.negate

    def _holds(self, text: str) -> bool:
        if self.key is not None:
            try:
                value = json.loads(text)[self.key]
            except (ValueError, KeyError, TypeError):
                return False
            if self.equals is self.contains is self.matches is None:
                return value is True
            text = value if isinstance(value, str) else json.dumps(value)
        plain = text.strip().casefold()
        return (
            (self.equals is None or plain == self.equals.strip().casefold())
            and (self.contains is None or self.contains.casefold() in plain)
            and (self.matches is None or re.search(self.matches, text) is not None)
        )


@dataclass(frozen=True, slots=True)
class Line:
    """One edge between two nodes."""

    origin: str
    to: str
    when: When | None


class State:
    """How far a run of the graph is."""

    def __init__(
        self,
        lines: Sequence[Line],
        back: Sequence[Line],
        question: str,
        untrusted: frozenset[str] = frozenset(),
    ) -> None:
        self.question = question
        self.said: dict[str, str] = {}
        self.untrusted = untrusted
        """Nodes whose words nobody vouches for."""
        self.runs: dict[str, int] = {}
        """How often each node was started."""
        self._ahead = [line for line in lines if line not in back]
        self._back = back
        self._taken: dict[Line, bool] = {}
        self._started: set[str] = set()
        self._again: list[str] = []
        """Nodes that an edge leads back to, not yet begun again."""
        self._decide(START, question)

    def ready(self, busy: set[str]) -> list[str]:
        """The nodes that may run now."""
        for target in list(self._again):
            region = behind(target, self._ahead)
            if not region & busy:
                self._again.remove(target)
                self._reset(region)
                return [target]
        found = []
        for name in dict.fromkeys(line.to for line in self._ahead):
            into = [self._taken.get(line) for line in self._ahead if line.to == name]
            if name not in self._started and None not in into and True in into:
                found.append(name)
        return found

    def start(self, name: str) -> None:
        """The node runs."""
        self._started.add(name)
        self.runs[name] = self.runs.get(name, 0) + 1

    def said_by(self, name: str, text: str) -> None:
        """The node has run: its edges are decided."""
        self.said[name] = text
        self._decide(name, text)
        self._again += [
            line.to
            for line in self._back
            if line.origin == name and (line.when is None or line.when.holds(text))
        ]

    def ended(self, name: str) -> bool:
        """Whether no edge from the node was taken."""
        return not any(self._taken.get(line) for line in self._ahead if line.origin == name)

    def _decide(self, name: str, text: str | None) -> None:
        """Decides the edges from a node; `None`: it is left out, and they are not taken."""
        for line in [line for line in self._ahead if line.origin == name]:
            holds = text is not None and (line.when is None or line.when.holds(text))
            self._taken[line] = holds
            into = [self._taken.get(other) for other in self._ahead if other.to == line.to]
            if not holds and all(taken is False for taken in into):
                self._decide(line.to, None)

    def _reset(self, region: set[str]) -> None:
        self._started -= region
        for name in region:
            self.said.pop(name, None)
        for line in self._ahead:
            if line.origin in region:
                self._taken.pop(line, None)


def behind(name: str, lines: Sequence[Line]) -> set[str]:
    """The node and all that lines lead to from it."""
    found, waiting = {name}, [name]
    while waiting:
        here = waiting.pop()
        for line in lines:
            if line.origin == here and line.to not in found:
                found.add(line.to)
                waiting.append(line.to)
    return found


def leading_back(lines: Sequence[Line]) -> list[Line]:
    """Lines to a node that lies on the way to their own beginning, in the order of the file."""
    back: list[Line] = []
    ahead: list[Line] = []
    for line in lines:
        if line.origin in behind(line.to, ahead):
            back.append(line)
        else:
            ahead.append(line)
    return back
