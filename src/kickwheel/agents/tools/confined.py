"""The options that tools in a sandbox share, and what they tell of a program."""

import hashlib
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from kickwheel.agents.caller import caller
from kickwheel.agents.tools import workspace as ground
from kickwheel.agents.tools.consumption import MOST_FILES, Bounds, Excess
from kickwheel.agents.tools.per_run import PerRun, per_run
from kickwheel.agents.tools.running import FLOOD_BYTES, Ran
from kickwheel.agents.tools.sandbox import WORKSPACE, Sandbox, probe
from kickwheel.agents.tools.tool import InvalidArguments, Limits, ToolPart, takes
from kickwheel.core.errors import ToolError, UsageError
from kickwheel.core.plugins import Context
from kickwheel.records import ToolSpec

FolderName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class Confined(ToolPart):
    """The options of tools that run programs in a sandbox."""

    workspace: Literal["run", "kept"] = "run"
    """Whose the folder is that programs work in. `run`: each request has a new one, gone with it.
    `kept`: each user has one, kept in the app's store."""
    folders: Mapping[FolderName, Path] = {}
    """Folders that programs may read; `manuals: ./pdf` is found at `/mnt/manuals`."""
    network: bool = False
    """Whether programs reach the network: all of it, this machine's own services included."""
    memory_mb: Annotated[int, Field(ge=16)] = 512
    """Megabytes of memory for a program and all that it starts."""
    cpu_s: Annotated[float, Field(gt=0)] = 30.0
    """Seconds of computing for a program and all that it starts."""
    disk_mb: Annotated[int, Field(ge=1)] = 256
    """Megabytes that the workspace may hold."""
    processes: Annotated[int, Field(ge=4)] = 64
    """Processes and threads of a program at once."""

    def absent(self, folder: Path) -> Iterable[tuple[str, str]]:
        """Folders to read that are none."""
        for path in self.folders.values():
            if not (folder / path).is_dir():
                yield "folders", f"there is no folder {folder / path}"

    @asynccontextmanager
    async def opened(
        self, context: Context, needed: Mapping[str, Path] | None = None
    ) -> AsyncGenerator[tuple[Sandbox, "Places"]]:
        """The sandbox, tried once, and the workspaces.

        Args:
            needed: further folders, by their paths in the sandbox.
        Raises:
            UsageError: nothing can be isolated here, or a folder does not exist.
        """
        folders = dict(needed or {})
        for name, path in self.folders.items():
            folders[f"/mnt/{name}"] = (context.folder / path).resolve()
            if not folders[f"/mnt/{name}"].is_dir():
                what = f"there is no folder {folders[f'/mnt/{name}']}"
                raise UsageError(f"tools.{context.name}.folders.{name}: {what}")
        await probe()
        bounds = Bounds(
            time_s=self.timeout_s,
            cpu_s=self.cpu_s,
            memory_bytes=self.memory_mb * 1_000_000,
            disk_bytes=self.disk_mb * 1_000_000,
            processes=self.processes,
        )
        sandbox = Sandbox(bounds=bounds, folders=folders, network=self.network)
        async with per_run(_scratch) as scratches:
            kept = context.store.folder / "workspaces" / context.name
            places = Places(scratches, kept if self.workspace == "kept" else None)
            # A folder that cannot be mounted is told now, not in a conversation.
            with ground.scratch() as place:
                try:
                    await sandbox.run(["/bin/true"], place)
                except ToolError as error:
                    raise UsageError(f"tools.{context.name}: {error}") from error
            yield sandbox, places

    def lasting(self) -> Limits:
        """The limits of a tool that ends its program itself when the time is up."""
        return replace(self.limits(), timeout_s=self.timeout_s + 5)

    def told(self, ran: Ran) -> str:
        """What a program did, as an agent reads it."""
        head = f"[exit code {ran.code}]"
        if ran.excess:
            head = f"[ended: {self._reason(ran.excess)}]"
        parts = [head, ran.out.rstrip("\n")]
        if ran.err:
            parts += ["[standard error]", ran.err.rstrip("\n")]
        return "\n".join(part for part in parts if part)

    def _reason(self, excess: Excess) -> str:
        return {
            "time": f"it was not done after {self.timeout_s:g} s",
            "cpu": f"it computed for more than {self.cpu_s:g} s",
            "memory": f"it used more than {self.memory_mb} MB of memory",
            "disk": f"its folder holds more than {self.disk_mb} MB or {MOST_FILES:,} files",
            "output": f"it printed more than {FLOOD_BYTES // 1_000_000} MB",
            "": "",
        }[excess]


class Places:
    """The workspaces of a tool."""

    def __init__(self, scratches: PerRun[Path], kept: Path | None) -> None:
        self._scratches = scratches
        self._kept = kept

    @asynccontextmanager
    async def here(self) -> AsyncGenerator[Path]:
        """The workspace of the request, or of the user, that the call is made for."""
        if self._kept is None:
            async with self._scratches.use() as place:
                yield place
        else:
            who = caller()
            name = hashlib.sha256(f"{who.tenant}\0{who.user}".encode()).hexdigest()[:16]
            yield ground.kept(self._kept / name)


class ReadFile:
    """A file of the workspace as a tool, so that nothing need be run to see it."""

    def __init__(self, name: str, places: Places, limits: Limits) -> None:
        self.limits = limits
        self._places = places
        self.spec = ToolSpec(
            name=name,
            description="The text of a file that a program left in its folder.",
            parameters=takes(
                "path", path={"type": "string", "description": f"Its path below {WORKSPACE}."}
            ),
        )

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """The file's text."""
        name = str(arguments["path"]).removeprefix(f"{WORKSPACE}/")
        async with self._places.here() as place:
            content = ground.read(place, name, _READ_BYTES)
        if b"\0" in content:
            raise InvalidArguments(f'"{name}" is no text')
        return content.decode(errors="replace")


_READ_BYTES = 1_000_000


@asynccontextmanager
async def _scratch() -> AsyncGenerator[Path]:
    with ground.scratch() as place:
        yield place
