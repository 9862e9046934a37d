"""The concierge's services: those of its recorded traffic, answered from a small world.

Names and schemas are not ours and not in this folder: they are read from the traffic that
`traffic.py` sets up. The world behind them is made up, but always the same: what a service answers
is drawn by a hash of the arguments, so that the same call has the same answer on every machine.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import traffic
import world

from kickwheel import Part
from kickwheel.agents.tools import Toolbox
from kickwheel.core.errors import UsageError
from kickwheel.core.plugins import Context
from kickwheel.records import ToolSpec, openai


class Services(Part):
    """All services of the concierge."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Toolbox]:
        """The services as tools.

        Raises:
            UsageError: the traffic was not set up yet, or is no such file.
            DataError: the traffic's package is damaged.
        """
        file = context.store.folder / "concierge.jsonl"  # Where `traffic.write` puts it.
        if not file.exists():
            if not traffic.place().exists():
                raise UsageError(
                    "the services are not set up yet: their schemas come with the recorded "
                    f"traffic.\n`kickwheel turn {context.folder}` sets it up and goes on; "
                    f"`python {context.folder / 'traffic.py'} {file}` does that alone."
                )
            # Another app or a snapshot of this one: the package is here, only the file is not.
            traffic.write(context.store.folder)
        yield [Service(spec) for spec in offered(file)]


class Service:
    """One service."""

    def __init__(self, spec: ToolSpec) -> None:
        self.spec = spec

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """What the service says, in a sentence or a few."""
        return world.answer(self.spec.name, arguments)


def offered(file: Path) -> list[ToolSpec]:
    """The tools that the traffic's requests offered, by name; of each the most frequent schema.

    Raises:
        UsageError: a line is no request that offers tools.
    """
    seen: dict[str, Counter[bytes]] = {}
    for number, tools in _offers(file):
        for entry in tools:
            try:
                spec = openai.tool_from_openai(entry)
            except ValueError as error:
                raise UsageError(f"{file}:{number}: {error}") from error
            # As it stands: a specialist writes arguments in the order in which it learned them.
            seen.setdefault(spec.name, Counter())[msgspec.json.encode(spec)] += 1
    # Equally frequent ones are told apart by their text, so that the choice never depends on order.
    return [
        msgspec.json.decode(max(counted, key=lambda text: (counted[text], text)), type=ToolSpec)
        for _, counted in sorted(seen.items())
    ]


def _offers(file: Path) -> Iterator[tuple[int, list[Any]]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                entry = msgspec.json.decode(line)
                # A record of served traffic has the request inside; a training file has it bare.
                yield number, entry.get("request", entry).get("tools") or []
            except (msgspec.DecodeError, AttributeError) as error:
                raise UsageError(f"{file}:{number}: no request of recorded traffic") from error
