"""`kind: shell`: commands for a shell, in a sandbox."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from kickwheel.agents.tools.confined import Confined, Places, ReadFile
from kickwheel.agents.tools.sandbox import WORKSPACE, Sandbox
from kickwheel.agents.tools.tool import InvalidArguments, Toolbox, safe, takes
from kickwheel.core.plugins import Context
from kickwheel.records import ToolSpec

_LONGEST = 100_000  # The kernel takes no argument longer than 131,072 bytes.


class Shell(Confined):
    """Lets an agent run shell commands in a sandbox, where they harm nobody."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Toolbox]:
        """A tool that runs commands, and one that reads a file they left.

        Raises:
            UsageError: programs cannot be isolated here.
        """
        name = safe(context.name)
        async with self.opened(context) as (sandbox, places):
            reading = replace(self.limits("none"), effects="none")
            yield [
                _Run(name, self, sandbox, places),
                ReadFile(f"{name}_read", places, reading),
            ]


class _Run:
    def __init__(self, name: str, part: Shell, sandbox: Sandbox, places: Places) -> None:
        self.limits = part.lasting()
        self._part = part
        self._sandbox = sandbox
        self._places = places
        known = "".join(f"\n/mnt/{name} is a folder to read." for name in part.folders)
        self.spec = ToolSpec(
            name=name,
            description=f"Run a bash command in {WORKSPACE}, and see its exit code and output. "
            "Files there stay for the next command; variables and the current folder do not. "
            f"There is {'a' if part.network else 'no'} network.{known}",
            parameters=takes("command", command={"type": "string", "description": "For bash -c."}),
        )

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """The exit code and what the command printed."""
        command = str(arguments["command"])
        if "\0" in command or len(command.encode(errors="replace")) > _LONGEST:
            raise InvalidArguments(
                f"a command is text of up to {_LONGEST:,} bytes; write a file and run that"
            )
        async with self._places.here() as place:
            encoded = command.encode(errors="replace").decode()
            return self._part.told(await self._sandbox.run(["/bin/bash", "-c", encoded], place))
