"""Who does the work, and with what.

events   what an agent does while it works, as it happens; what an agent is
kinds    ways of working: `tool_loop`
tools    what an agent can do: `python`, or a class of one's own

An agent answers like a model, so whatever takes a model takes an agent.
"""

from kickwheel.agents.events import Agent, Called, Event, Finished, Returned, Text

__all__ = ["Agent", "Called", "Event", "Finished", "Returned", "Text"]
