"""One question to an app."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from kickwheel.agents.ask import Answered, ask
from kickwheel.agents.caller import Caller, acting_for
from kickwheel.agents.events import Event
from kickwheel.agents.preview import first
from kickwheel.app.check import check_app
from kickwheel.app.needs import default
from kickwheel.app.opening import open_app
from kickwheel.core import redact
from kickwheel.core.errors import UsageError
from kickwheel.models.sent import Sent, sent
from kickwheel.records import Message


def run(
    app: Path,
    question: str,
    *,
    name: str | None = None,
    key: str = "",
    on_event: Callable[[Event], None] | None = None,
) -> Answered:
    """What an agent or model of the app answers to one question.

    Args:
        app: the app file, its folder, or a snapshot.
        name: of the agent or model; by default the app's own.
        key: asked again under the same key, an agent goes on where it was, or gives the same
            answer again.
        on_event: told what happens as it happens.
    Raises:
        UsageError: the question is empty.
        KickwheelError: the app does not open, or there is no answer.
    """
    if not question.strip():
        raise UsageError('the question is empty. Ask something, in quotes: "Where is my order?"')

    async def asked() -> Answered:
        plan = check_app(app)
        wanted = name or default(plan)
        async with open_app(plan, only=[wanted]) as opened:
            messages = [Message(role="user", content=question)]
            with acting_for(Caller(key=key)):
                return await ask(opened.model(wanted), messages, opened.recorder, on_event=on_event)

    return asyncio.run(asked())


def show(app: Path, question: str, *, name: str | None = None) -> Sent:
    """The request that would be sent first for a question, exactly as it would be; no model is
    asked, and no engine started. Only keys, tokens and passwords in it are hidden.

    Args:
        app: the app file, its folder, or a snapshot.
        name: of the agent or model; by default the app's own.
    Raises:
        UsageError: the agent answers without a model, or would do something with effects before.
        KickwheelError: the app does not open.
    """

    async def looked() -> Sent:
        plan = check_app(app)
        wanted = name or default(plan)
        async with open_app(plan, only=[wanted], dry=True) as opened:
            messages = [Message(role="user", content=question)]
            found = sent(*await first(opened.model(wanted), messages))
            return replace(found, url=redact.secrets(found.url), body=redact.secrets(found.body))

    return asyncio.run(looked())
