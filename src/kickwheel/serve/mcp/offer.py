"""What an app offers over MCP: agents, tools, and the files below folders.

By default the agents: whoever may ask them over OpenAI's protocol may ask them here. Tools are
offered where the file names them, since an agent's judgement no longer stands before them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kickwheel.agents.offered import Offered
from kickwheel.agents.tools.files import Files
from kickwheel.agents.tools.root import Root
from kickwheel.app import App
from kickwheel.core.errors import UsageError
from kickwheel.core.plugins import nearest


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder whose files are offered."""

    name: str
    """Of its entry in `tools`."""
    root: Root
    encoding: str | None


class Offer:
    """What is offered, as it is now: the tools of MCP servers come and go.

    Raises:
        UsageError: two things that are offered have the same name.
    """

    def __init__(self, app: App, names: tuple[str, ...], shelves: tuple[Shelf, ...]) -> None:
        self.app = app
        self.shelves = shelves
        self._names = names
        self.tools()

    def tools(self) -> dict[str, Offered]:
        """All tools and agents by name, in the order in which the file names them."""
        found: dict[str, Offered] = {}
        for one in self.app.tools(*self._names) if self._names else ():
            name = one.spec.name
            if name in found:
                raise UsageError(
                    f'serve.mcp: two of what is offered are called "{name}"; a client could not '
                    "tell them apart. Rename one, or leave one out of `offer`."
                )
            found[name] = one
        return found

    def tool(self, name: str) -> Offered:
        """The tool or agent of that name.

        Raises:
            UsageError: none is offered; the text names the nearest.
        """
        tools = self.tools()
        if name not in tools:
            raise UsageError(f'no tool "{name}" here. {nearest(name, tools)}')
        return tools[name]


def offers(app: App) -> tuple[str, ...]:
    """The names of what the file offers: of entries of `agents` and `tools`."""
    chosen = app.plan.config.serve.mcp.offer
    if chosen is not None:
        return chosen
    return tuple(name for shelf, name in app.live if shelf == "agents")


@contextmanager
def offer(app: App) -> Iterator[Offer]:
    """What the app offers, with the folders among it open while the block runs.

    Raises:
        UsageError: two things that are offered have the same name.
    """
    names = offers(app)
    shelves = []
    try:
        for name in names:
            part = app.plan.parts.get(("tools", name))
            if isinstance(part, Files):
                root = Root(app.plan.folder / part.root)
                shelves.append(Shelf(name, root, part.encoding))
        yield Offer(app, names, tuple(shelves))
    finally:
        for shelf in shelves:
            shelf.root.close()
