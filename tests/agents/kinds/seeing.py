"""A tool that takes pictures, as somebody else would write it."""

import base64
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from kickwheel.agents.tools import Pictured, Tool, ToolPart
from kickwheel.core.plugins import Context
from kickwheel.core.store import Artifacts
from kickwheel.models import pictures
from kickwheel.records import ToolSpec

taken: list[str] = []


def picture(of: str) -> bytes:
    """A picture of it, as far as anybody can tell."""
    return b"\x89PNG\r\n\x1a\n" + of.encode()


class Camera(ToolPart):
    """Takes pictures."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[list[Tool]]:
        yield [Take(context.store.artifacts)]


class Take:
    spec = ToolSpec(
        name="take",
        description="A picture.",
        parameters={
            "type": "object",
            "properties": {"of": {"type": "string"}},
            "required": ["of"],
            "additionalProperties": False,
        },
    )

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    async def call(self, arguments: Mapping[str, Any]) -> str:
        taken.append(arguments["of"])
        data = base64.b64encode(picture(arguments["of"])).decode()
        kept = pictures.keep(self._artifacts, "image/png", data)
        return Pictured(f"a picture of {arguments['of']}", [kept])
