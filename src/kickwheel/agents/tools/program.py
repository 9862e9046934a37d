"""`kind: program`: Python programs, all of Python, in a sandbox."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from kickwheel.agents.tools.confined import Confined, Places, ReadFile
from kickwheel.agents.tools.sandbox import WORKSPACE, Sandbox
from kickwheel.agents.tools.tool import Toolbox, safe, takes
from kickwheel.core.errors import UsageError
from kickwheel.core.plugins import Context
from kickwheel.records import ToolSpec

_FILE = "/program.py"


class Program(Confined):
    """Lets an agent run Python programs in a sandbox, with any packages."""

    python: Path = Path("/usr/bin/python3")
    """The interpreter; one of a virtual environment brings its packages."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Toolbox]:
        """A tool that runs programs, and one that reads a file they left.

        Raises:
            UsageError: programs cannot be isolated here, or there is no such interpreter.
        """
        name = safe(context.name)
        # Not resolved: the link in a virtual environment is what makes it one.
        python = (context.folder / self.python).absolute()
        version, needed = await _interpreter(python, context.name)
        async with self.opened(context, needed) as (sandbox, places):
            reading = replace(self.limits("none"), effects="none")
            yield [
                _Run(name, version, python, self, sandbox, places),
                ReadFile(f"{name}_read", places, reading),
            ]


class _Run:
    def __init__(
        self,
        name: str,
        version: str,
        python: Path,
        part: Program,
        sandbox: Sandbox,
        places: Places,
    ) -> None:
        self.limits = part.lasting()
        self._python = str(python)
        self._part = part
        self._sandbox = sandbox
        self._places = places
        known = "".join(f"\n/mnt/{name} is a folder to read." for name in part.folders)
        self.spec = ToolSpec(
            name=name,
            description=f"Run a program in Python {version} and see what it prints. Only printed "
            f"text is seen. Files in {WORKSPACE}, where it starts, stay for the next program; "
            f"variables do not. There is {'a' if part.network else 'no'} network.{known}",
            parameters=takes(
                "program", program={"type": "string", "description": "Its whole text."}
            ),
        )

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """The exit code and what the program printed."""
        source = str(arguments["program"]).encode(errors="replace")
        command = [self._python, "-B", "-u", "-X", "utf8", _FILE]
        async with self._places.here() as place:
            ran = await self._sandbox.run(command, place, files={_FILE: source})
            return self._part.told(ran)


async def _interpreter(python: Path, part: str) -> tuple[str, dict[str, Path]]:
    """Its version, and the folders that it needs beside /usr, by their paths."""
    ask = "import json,sys;print(json.dumps([sys.version.split()[0],sys.prefix,sys.base_prefix]))"
    try:
        process = await asyncio.create_subprocess_exec(
            *(str(python), "-I", "-c", ask),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 30)
        version, *prefixes = json.loads(out)
    except (OSError, ValueError, TimeoutError) as error:
        raise UsageError(
            f"tools.{part}.python: {python} is no Python that runs. Name another, or install one "
            "(Debian: apt-get install python3)"
        ) from error
    folders = {prefix: Path(prefix) for prefix in prefixes}
    return version, {at: real for at, real in folders.items() if not at.startswith("/usr")}
