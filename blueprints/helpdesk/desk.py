"""The helpdesk's parts: a domain's tools, and the agent that follows its policy."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import tau2_package

from kickwheel.agents.kinds.tool_loop import Loop, ToolLoop
from kickwheel.agents.tools import Toolbox, ToolPart
from kickwheel.agents.tools.python import from_function
from kickwheel.core.plugins import Context


class Domain(ToolPart):
    """The tools of one domain over its database, which begins anew with each start."""

    domain: tau2_package.Domain
    """`retail` or `airline`."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Toolbox]:
        """The tools; those that only read may be called again."""
        yield [
            from_function(function, self.limits("none" if reads else "once"))
            for function, reads in tau2_package.functions(self.domain)
        ]


class Desk(ToolLoop):
    """An agent that calls its domain's tools, with the domain's policy as its instructions."""

    domain: tau2_package.Domain
    """`retail` or `airline`."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Loop]:
        """The agent at work."""
        told = self.model_copy(update={"instructions": tau2_package.policy(self.domain)})
        async with super(Desk, told).open(context) as loop:
            yield loop
