"""Whose answers a trace has to teach, where others frame their agents in their own way."""

from typing import Any

from kickwheel.flywheel.curate.extract import extract
from kickwheel.records import Message, Span, SpanKind, ToolSpec, Trace

WEATHER = ToolSpec(name="weather", description="Of a city.")
ASKED = (Message(role="user", content="Oslo?"),)


def a_span(identity: str, parent: str | None, kind: SpanKind, **more: Any) -> Span:
    return Span(id=identity, parent=parent, kind=kind, name=identity, start_ns=1, end_ns=2, **more)


def a_model(identity: str, parent: str, said: str, **more: Any) -> Span:
    output = (Message(role="assistant", content=said),)
    return a_span(identity, parent, "model", input=ASKED, output=output, **more)


def learned(*spans: Span) -> list[tuple[str | None, list[str]]]:
    """The answers, with the tools that were offered."""
    found = extract(Trace(id="1" * 32, workload="desk", spans=spans))
    assert not isinstance(found, str), found
    return [(one.answer.content, [tool.name for tool in one.tools]) for one in found]


def test_an_agent_that_neither_was_asked_nor_answered_frames_the_one_in_it() -> None:
    frame = a_span("workflow", None, "agent")
    inside = (
        a_span("turn", "workflow", "step"),
        a_span("desk", "turn", "agent"),
        a_model("model", "desk", "Sunny."),
    )
    assert learned(frame, *inside) == [("Sunny.", [])]
    # Whom the conversation was handed over to answers it, too.
    other = (a_span("other", "workflow", "agent"), a_model("after", "other", "All day."))
    assert learned(frame, *inside, *other) == [("Sunny.", []), ("All day.", [])]
    # One that was asked stands for itself: whoever works below it is another one.
    done = (Message(role="assistant", content="Done."),)
    asked = a_span("workflow", None, "agent", input=ASKED, output=done)
    assert learned(asked, *inside) == [("Done.", [])]


def test_tools_that_stand_with_the_agent_are_offered_with_each_call() -> None:
    agent = a_span("desk", None, "agent", input=ASKED, tools=(WEATHER,))
    loop = a_span("loop", "desk", "step")
    assert learned(
        agent, loop, a_model("one", "loop", "Sunny."), a_model("two", "desk", "So.")
    ) == [
        ("Sunny.", ["weather"]),
        ("So.", ["weather"]),
    ]
    # Where calls tell their tools, one without them had none.
    offered = a_model("one", "desk", "Sunny.", tools=(WEATHER,))
    assert learned(agent, offered, a_model("two", "desk", "So.")) == [
        ("Sunny.", ["weather"]),
        ("So.", []),
    ]
