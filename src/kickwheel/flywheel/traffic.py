"""Traffic, and what people say of it, into an app's store."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from kickwheel.agents.tools.schema import mistakes
from kickwheel.app import Plan, check_app, no_app
from kickwheel.core.errors import UsageError
from kickwheel.core.plugins import code, nearest
from kickwheel.core.store import EVERYTHING, Sight, open_store
from kickwheel.records import Feedback, Message, ToolCall, Trace
from kickwheel.trace import chatlog
from kickwheel.trace.store import Summary, Traces

_FORM = 'the call must be JSON {"name": …, "arguments": {…}}'


def import_(
    traffic: Path,
    app: Path = Path(),
    *,
    workload: str | None = None,
    form: str | None = None,
    on_progress: Callable[[float, float, str], None] | None = None,
) -> chatlog.Landed:
    """Lands a file of traffic as traces in the app's store.

    Args:
        traffic: in any of the forms of `trace.forms`.
        app: the app file, or its folder.
        workload: whose traffic it is, where a line does not say; by default the app's flywheel
            decides, so that a turn finds it, and without one what the file calls it.
        form: name of the file's form, where it does not tell.
        on_progress: told bytes done, bytes in all, and a note.
    Raises:
        DataError: more than 10 % of the lines are broken; nothing landed.
    """
    plan = check_app(app)
    loop = plan.config.flywheel
    whose = workload or ((loop.workload or loop.model) if loop is not None else None)
    with open_store(plan.store, plan.database) as store:
        traces = Traces(store)
        return chatlog.import_(traffic, traces, workload=whose, form=form, on_progress=on_progress)


def plan_of(app: Path) -> Plan:
    """The plan of an app, or of a folder in which traffic was recorded without one.

    Raises:
        ConfigError: the file has mistakes.
    """
    recorded = app.is_dir() and not (app / "app.yml").exists() and (app / ".kickwheel").is_dir()
    return no_app(app) if recorded else check_app(app)


def listed(
    app: Path = Path(),
    *,
    workload: str | None = None,
    tenant: str | None = None,
    limit: int = 20,
) -> list[Summary]:
    """The newest traces of the app's store, newest first.

    Args:
        app: the app file, its folder, or one in which traffic was recorded without an app.
        workload: only this one's; by default all.
        tenant: only this one's; by default all.
    """
    plan = plan_of(app)
    with open_store(plan.store, plan.database) as store:
        sight = Sight(tenant) if tenant else EVERYTHING
        return Traces(store).list(workload, sight=sight, limit=limit)


def declared(plan: Plan) -> list[Path]:
    """The files that the app's flywheel names; a `module:function` is asked to write its own.

    Raises:
        UsageError: there is no such file or function.
    """
    files = []
    for entry in plan.loop.traffic:
        path = plan.folder / entry
        if path.exists():
            files.append(path)
        elif ":" in entry:
            files.append(Path(code(entry, plan.folder)(plan.store)))
        else:
            raise UsageError(f"{plan.file}: flywheel.traffic: there is no file {path}")
    return files


def feedback(
    trace: str,
    verdict: Literal["good", "bad"],
    *,
    app: Path = Path(),
    answer: str | None = None,
    call: str | None = None,
    note: str = "",
) -> str:
    """Keeps what somebody said of an answer; returns the trace's whole id.

    Args:
        trace: id of the trace, or how it begins.
        verdict: whether the answer was good.
        app: the app file, or its folder.
        answer: the text that would have been right.
        call: the call that would have been right, as JSON `{"name": …, "arguments": {…}}`.
        note: why.
    Raises:
        UsageError: there is no such trace, or `call` is no call that its tools allow.
    """
    right = _right(answer, call)
    plan = check_app(app)
    with open_store(plan.store, plan.database) as store:
        traces = Traces(store)
        if right is not None:
            check_right(traces.get(trace), right)
        said = Feedback(verdict=verdict, answer=right, note=note)
        return traces.feedback(trace, said)


def check_right(trace: Trace, right: Message) -> None:
    """Returns if the tools that were offered in the trace allow the calls of a corrected answer.

    Raises:
        UsageError: a call is to another tool, or its arguments break the tool's schema.
    """
    offered = {tool.name: tool for span in trace.spans for tool in span.tools}
    for call in right.tool_calls:
        if call.name not in offered:
            raise UsageError(
                f'trace {trace.id[:12]} was offered no tool "{call.name}". '
                f"{nearest(call.name, offered)}"
            )
        arguments = _arguments(call)
        wrong = mistakes(arguments, offered[call.name].parameters)
        if wrong:
            raise UsageError(f"the right call to {call.name} cannot be made: {'; '.join(wrong)}")


def _arguments(call: ToolCall) -> dict[str, Any]:
    try:
        arguments = json.loads(call.arguments)
    except ValueError as error:
        raise UsageError(f"the arguments of {call.name} are no JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise UsageError(f"the arguments of {call.name} are no JSON object")
    return arguments


def _right(answer: str | None, call: str | None) -> Message | None:
    if call is not None:
        calls = (_call(call),)
        return Message(role="assistant", content=answer, tool_calls=calls)
    return None if answer is None else Message(role="assistant", content=answer)


def _call(written: str) -> ToolCall:
    try:
        parsed = json.loads(written)
    except ValueError as error:
        raise UsageError(f"{_FORM}; this is no JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise UsageError(f"{_FORM}; this is no object")
    name, arguments = parsed.get("name"), parsed.get("arguments")
    if not isinstance(name, str):
        raise UsageError(f'{_FORM}; "name" is missing or no text')
    if not isinstance(arguments, dict):
        raise UsageError(f'{_FORM}; "arguments" is missing or no object')
    more = sorted(parsed.keys() - {"name", "arguments"})
    if more:
        raise UsageError(f'{_FORM}; what is {", ".join(more)}? Arguments stand in "arguments"')
    return ToolCall(id="call_0", name=name, arguments=json.dumps(arguments, ensure_ascii=False))
