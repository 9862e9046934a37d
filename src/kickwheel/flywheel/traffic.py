"""Traffic, and what people say of it, into an app's store."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from kickwheel.app import Plan, check_app
from kickwheel.core.errors import UsageError
from kickwheel.core.plugins import code
from kickwheel.core.store import open_store
from kickwheel.records import Feedback, Message, ToolCall
from kickwheel.trace import chatlog
from kickwheel.trace.store import Traces


def import_(
    traffic: Path,
    app: Path = Path(),
    *,
    workload: str | None = None,
    on_progress: Callable[[float, float, str], None] | None = None,
) -> chatlog.Landed:
    """Lands a file of traffic as traces in the app's store.

    Args:
        traffic: OpenAI chat JSONL, the fine-tuning form, or Data Flywheel records.
        app: the app file, or its folder.
        workload: whose traffic it is, where a line does not say; by default the app's flywheel
            decides, so that a turn finds it, and without one the file's name.
        on_progress: told bytes done, bytes in all, and a note.
    Raises:
        DataError: more than 10 % of the lines are broken; nothing landed.
    """
    plan = check_app(app)
    loop = plan.config.flywheel
    whose = workload or ((loop.agent or loop.model) if loop is not None else None)
    with open_store(plan.store) as store:
        return chatlog.import_(traffic, Traces(store), workload=whose, on_progress=on_progress)


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
        UsageError: there is no such trace, or `call` is no such JSON.
    """
    said = Feedback(verdict=verdict, answer=_right(answer, call), note=note)
    with open_store(check_app(app).store) as store:
        return Traces(store).feedback(trace, said)


def _right(answer: str | None, call: str | None) -> Message | None:
    if call is not None:
        try:
            parsed = json.loads(call)
            name, arguments = parsed["name"], json.dumps(parsed["arguments"])
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f'the call must be JSON {{"name": …, "arguments": {{…}}}}: {error}'
            ) from error
        calls = (ToolCall(id="call_0", name=name, arguments=arguments),)
        return Message(role="assistant", content=answer, tool_calls=calls)
    return None if answer is None else Message(role="assistant", content=answer)
