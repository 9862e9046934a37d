"""Who does the work, and with what.

kinds     ways of working, from a loop over tools to a person who answers
tools     what an agent can do
memory    what it remembers
bridges   agents of other frameworks, and tools and models for them
nat       workflows of NeMo Agent Toolkit as app files

work      what all kinds share around their work; `run` what a kind works with
events    what an agent does, as it happens; what an agent is
ask       one question, noted in a trace; `preview` the request that would come first
caller    for whom an agent works
durable   steps that are kept: `keeper` the runs of a process, `kept` one run, `failure` its errors
delegate  an agent as a tool of another; `offered` as one of other programs
output    answers of a fixed form

planned, edges, stubs, transcript: what the kinds plan, graph, code and react each stand on.

An agent answers like a model, so whatever takes a model takes an agent.
"""

from kickwheel.agents.events import Agent, Called, Event, Finished, Returned, Text

__all__ = ["Agent", "Called", "Event", "Finished", "Returned", "Text"]
