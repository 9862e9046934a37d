"""Trajectories in ATIF, the Agent Trajectory Interchange Format of Harbor, versions 1.0 to 1.7: a
file is one of them, or has several.

    trajectory                      the trace; its agent is the root
    step of the agent               a question to a model: all that was said before, and the answer
    tool calls and observations     the tools' spans; results are read by the questions after
    step of user or system          part of the conversation
    step copied from elsewhere      part of the conversation only, as it was learned from there
    subagent trajectory             an agent below the call that refers to it

Reasoning is left out: no answer of ours has it.

Source: Harbor, `rfcs/0001-trajectory-format.md`; its models as NVIDIA ships them,
`nvidia-nat-atif` 1.9.0.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kickwheel.records import Message, Span, ToolCall, ToolSpec, genai, wire
from kickwheel.trace.forms import loose
from kickwheel.trace.forms.form import (
    Piece,
    amount,
    attributes,
    located,
    mapping,
    number,
    sequence,
    span_id,
    text,
    time_ns,
)
from kickwheel.trace.forms.rows import Row

_DEPTH = 20
"""Subagents of subagents at most."""


class Atif:
    """Harbor's agent trajectories."""

    name = "atif"
    about = "ATIF trajectories, as Harbor writes them"
    grouped = False

    def fits(self, entry: Mapping[str, Any]) -> bool:
        """Whether it names its schema's version, or has an agent and steps."""
        version = entry.get("schema_version")
        return (isinstance(version, str) and version.startswith("ATIF")) or (
            {"agent", "steps"} <= entry.keys()
        )

    def read(self, row: Row, entry: Mapping[str, Any]) -> Sequence[Piece]:
        """The trajectory, with those of its subagents."""
        identity = wire.digest(entry)[:32]
        name = text(mapping(entry.get("agent"), "agent"), "name")
        spans = list(_trajectory(entry, identity, None, 0))
        return [Piece(trace=identity, spans=tuple(spans), called=name)]


@dataclass(slots=True)
class _Way:
    """A trajectory on its way through its steps."""

    trace: str
    root: str
    model: str
    tools: tuple[ToolSpec, ...]
    said: list[Message] = field(default_factory=list)
    calls: dict[str, Span] = field(default_factory=dict)
    """Spans of calls, by the trajectory that they handed work to."""


def _trajectory(
    entry: Mapping[str, Any], trace: str, above: Span | None, depth: int
) -> Iterator[Span]:
    if depth > _DEPTH:
        raise ValueError(f"subagents of subagents, more than {_DEPTH} deep")
    agent = mapping(entry.get("agent"), "agent")
    steps = sequence(entry, "steps")
    if not steps:
        raise ValueError("steps is empty")
    known = str(entry.get("trajectory_id") or entry.get("session_id") or "")
    parent = None if above is None else above.id
    root = span_id(f"{trace} {parent} {known}")
    way = _Way(
        trace=f"{trace} {root}",
        root=root,
        model=str(agent.get("model_name") or ""),
        tools=loose.tools(agent.get("tool_definitions")),
    )
    times = _times(steps, 0 if above is None else above.start_ns)
    spans: list[Span] = []
    for step, start, end in zip(
        located(lambda one: mapping(one, "a step"), steps, "steps"),
        times[:-1],
        times[1:],
        strict=True,
    ):
        try:
            spans += _step(step, way, start, end)
        except ValueError as error:
            raise ValueError(f"steps[{step.get('step_id', '?')}]: {error}") from error
    top = Span(
        id=root,
        parent=parent,
        kind="agent",
        name=text(agent, "name"),
        start_ns=times[0],
        end_ns=times[-1],
        attributes=attributes(_about(entry, agent)),
        input=tuple(_until_answer(way.said)),
        output=tuple(one for one in way.said if one.role == "assistant")[-1:],
        tools=way.tools,
    )
    yield top
    yield from spans
    inner = sequence(entry, "subagent_trajectories")
    for sub in located(lambda one: mapping(one, "a trajectory"), inner, "subagent_trajectories"):
        above = way.calls.get(str(sub.get("trajectory_id")), top)
        yield from _trajectory(sub, trace, above, depth + 1)


def _step(step: Mapping[str, Any], way: _Way, start_ns: int, end_ns: int) -> Iterator[Span]:
    source = step.get("source")
    if source not in ("user", "system", "agent"):
        raise ValueError(f'source must be user, system or agent, not "{source}"')
    said = _content(step.get("message"))
    results = _results(step)
    if source != "agent":
        way.said.append(Message(role="user" if source == "user" else "system", content=said))
        way.said += [Message(role="user", content=content) for _, content, _ in results]
        return
    calls = tuple(located(_call, sequence(step, "tool_calls"), "tool_calls"))
    answer = Message(role="assistant", content=said or None if calls else said, tool_calls=calls)
    number_ = str(step.get("step_id"))
    if not step.get("is_copied_context"):
        if step.get("llm_call_count") != 0:
            yield _asked(step, way, answer, number_, start_ns, end_ns)
        for call in calls:
            found = [one for one in results if one[0] == call.id]
            span = _made(call, way, number_, found, start_ns, end_ns)
            for _, _, refs in found:
                way.calls |= dict.fromkeys(refs, span)
            yield span
    way.said.append(answer)
    for call_id, content, _ in results:
        if call_id is not None and call_id in {call.id for call in calls}:
            way.said.append(Message(role="tool", content=content, tool_call_id=call_id))
        else:
            # What came back for no call is what the agent saw next.
            way.said.append(Message(role="user", content=content))


def _asked(
    step: Mapping[str, Any], way: _Way, answer: Message, number_: str, start_ns: int, end_ns: int
) -> Span:
    metrics = step.get("metrics")
    metrics = metrics if isinstance(metrics, Mapping) else {}
    model = str(step.get("model_name") or way.model)
    found = {
        genai.OPERATION: "chat",
        genai.REQUEST_MODEL: model or None,
        genai.INPUT_TOKENS: number(metrics.get("prompt_tokens")),
        genai.OUTPUT_TOKENS: number(metrics.get("completion_tokens")),
        genai.CACHED_TOKENS: number(metrics.get("cached_tokens")),
        genai.COST_USD: amount(metrics.get("cost_usd")),
    }
    return Span(
        id=span_id(f"{way.trace} {number_}"),
        parent=way.root,
        kind="model",
        name=model or "model",
        start_ns=start_ns,
        end_ns=end_ns,
        attributes=attributes(found),
        input=tuple(way.said),
        output=(answer,),
        tools=way.tools,
    )


_Result = tuple[str | None, str, list[str]]
"""Of which call, what came back, and the trajectories that it refers to."""


def _made(
    call: ToolCall,
    way: _Way,
    number_: str,
    found: Sequence[_Result],
    start_ns: int,
    end_ns: int,
) -> Span:
    about = {
        genai.OPERATION: "execute_tool",
        genai.TOOL_NAME: call.name,
        genai.TOOL_CALL_ID: call.id,
    }
    return Span(
        id=span_id(f"{way.trace} {number_} {call.id}"),
        parent=way.root,
        kind="tool",
        name=call.name,
        start_ns=start_ns,
        end_ns=end_ns,
        attributes=about,
        input=(Message(role="assistant", tool_calls=(call,)),),
        output=tuple(
            Message(role="tool", content=content, tool_call_id=call.id) for _, content, _ in found
        ),
    )


def _call(entry: object) -> ToolCall:
    one = mapping(entry, "a tool call")
    made = loose.call({**one, "arguments": one.get("arguments", {})}, 0)
    return replace(made, id=text(one, "tool_call_id"), name=text(one, "function_name"))


def _results(step: Mapping[str, Any]) -> list[_Result]:
    observation = step.get("observation")
    if observation is None:
        return []
    found: list[_Result] = []
    entries = sequence(mapping(observation, "observation"), "results")
    for one in located(lambda entry: mapping(entry, "a result"), entries, "observation.results"):
        call = one.get("source_call_id")
        refs = [
            str(ref.get("trajectory_id"))
            for ref in sequence(one, "subagent_trajectory_ref")
            if isinstance(ref, Mapping)
        ]
        written = _content(one.get("content")) or ""
        found.append((call if isinstance(call, str) else None, written, refs))
    return found


def _content(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError("content must be text or a list of parts")
    texts = []
    for part in value:
        one = mapping(part, "a content part")
        if one.get("type") != "text":
            raise ValueError(f"content parts must be text; this one is {one.get('type')}")
        texts.append(str(one.get("text") or ""))
    return "".join(texts)


def _times(steps: Sequence[Any], since_ns: int) -> list[int]:
    """When each step began, and when the last one was over; a step without a time has that of the
    one before."""
    found: list[int] = []
    for step in steps:
        at = time_ns(step.get("timestamp")) if isinstance(step, Mapping) else 0
        found.append(max(at, found[-1] if found else since_ns))
    return [*found, found[-1]]


def _until_answer(said: Sequence[Message]) -> Iterator[Message]:
    for message in said:
        if message.role == "assistant":
            return
        yield message


def _about(entry: Mapping[str, Any], agent: Mapping[str, Any]) -> dict[str, Any]:
    metrics = entry.get("final_metrics")
    metrics = metrics if isinstance(metrics, Mapping) else {}
    found = {
        genai.AGENT_NAME: agent.get("name"),
        "atif.agent.version": agent.get("version"),
        "atif.session": entry.get("session_id"),
        "atif.trajectory": entry.get("trajectory_id"),
        "atif.notes": entry.get("notes"),
        "atif.continued_in": entry.get("continued_trajectory_ref"),
        "atif.total_cost_usd": amount(metrics.get("total_cost_usd")),
        "atif.total_prompt_tokens": number(metrics.get("total_prompt_tokens")),
        "atif.total_completion_tokens": number(metrics.get("total_completion_tokens")),
    }
    return {key: value for key, value in found.items() if value is not None}
