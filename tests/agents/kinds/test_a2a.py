"""`kind: a2a` against a real server of the SDK, in both bindings and both versions."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from a2a.helpers import new_task_from_user_message
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import (
    create_agent_card_routes,
    create_jsonrpc_routes,
    create_rest_routes,
)
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Message, Part, Role
from a2a.utils.errors import UnsupportedOperationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import Route
from tests.serve.a2a.served import eventually

from kickwheel.agents.caller import Caller, acting_for
from kickwheel.agents.events import Asked, Event, Finished, Text
from kickwheel.app import App, open_app
from kickwheel.core.errors import ConfigError, ModelError, RunLost
from kickwheel.records import Message as Said
from kickwheel.records import Span, genai

JSONRPC = ("JSONRPC", "1.0")
REST = ("HTTP+JSON", "1.0")
OLD = ("JSONRPC", "0.3")


class Executor(AgentExecutor):
    """Does what the message says."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.go = asyncio.Event()
        self.cancelled: list[str] = []
        self.stubborn = False

    async def execute(self, context: RequestContext, queue: EventQueue) -> None:
        text = context.get_user_input()
        self.heard.append(text)
        assert context.message is not None
        assert context.task_id is not None
        assert context.context_id is not None
        if text == "just say":
            said = Message(message_id="r", role=Role.ROLE_AGENT, parts=[Part(text="said")])
            await queue.enqueue_event(said)
            return
        if context.current_task is None:
            await queue.enqueue_event(new_task_from_user_message(context.message))
        work = TaskUpdater(queue, context.task_id, context.context_id)
        await work.start_work()
        if text == "ask":
            message = work.new_agent_message([Part(text="Which colour?")])
            await work.requires_input(message)
        elif text == "fail":
            await work.failed(work.new_agent_message([Part(text="no stock")]))
        elif text == "log in":
            await work.requires_auth(work.new_agent_message([Part(text="who are you?")]))
        else:
            await work.add_artifact([Part(text="echo ")], artifact_id="a")
            if text == "slow":
                await self.go.wait()
            await work.add_artifact([Part(text=text)], artifact_id="a", append=True)
            await work.complete()

    async def cancel(self, context: RequestContext, queue: EventQueue) -> None:
        if self.stubborn:
            raise UnsupportedOperationError("nothing is cancelled here")
        assert context.task_id is not None
        assert context.context_id is not None
        self.cancelled.append(context.task_id)
        await TaskUpdater(queue, context.task_id, context.context_id).cancel()


class Elsewhere:
    """The server, with what it was asked."""

    def __init__(self, url: str, executor: Executor) -> None:
        self.url, self.executor = url, executor
        self.keys: list[str] = []


@asynccontextmanager
async def elsewhere(
    binding: tuple[str, str] = JSONRPC, *, streaming: bool = True, place: str = ""
) -> AsyncGenerator[Elsewhere]:
    """A server of the SDK; `place`: where its card says that it answers."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    name, version = binding
    card = AgentCard(
        name="far",
        description="Answers far away.",
        version="1",
        supported_interfaces=[
            AgentInterface(
                url=place or f"{url}/rpc", protocol_binding=name, protocol_version=version
            )
        ],
        capabilities=AgentCapabilities(streaming=streaming),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="s", name="s", description="d", tags=["t"])],
    )
    executor = Executor()
    here = Elsewhere(url, executor)
    handler = DefaultRequestHandler(executor, InMemoryTaskStore(), card)
    app = Starlette(
        routes=[
            *create_agent_card_routes(card),
            Route("/moved/.well-known/agent-card.json", _moved),
            Route("/broken/.well-known/agent-card.json", _broken),
            *create_jsonrpc_routes(handler, "/rpc", enable_v0_3_compat=True),
            *create_rest_routes(handler),
        ]
    )

    async def noted(scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", ()))
        here.keys.append(headers.get(b"authorization", b"").decode())
        await app(scope, receive, send)

    server = uvicorn.Server(
        uvicorn.Config(noted, host="127.0.0.1", port=port, log_level="error", lifespan="off")
    )
    running = asyncio.create_task(server.serve())
    try:
        for _ in range(500):
            if server.started:
                break
            await asyncio.sleep(0.01)
        yield here
    finally:
        server.should_exit = server.force_exit = True
        await running


async def _moved(request: Request) -> RedirectResponse:
    return RedirectResponse("/.well-known/agent-card.json")


async def _broken(request: Request) -> JSONResponse:
    return JSONResponse({"name": 5, "supportedInterfaces": "none"})


@asynccontextmanager
async def app(folder: Path, url: str, more: str = "") -> AsyncGenerator[App]:
    text = f"agents:\n  far: {{kind: a2a, url: '{url}'{more}}}\n"
    (folder / "app.yml").write_text(text, encoding="utf-8")
    async with open_app(folder) as opened:
        yield opened


async def events(opened: App, question: str, *before: Said, run: str = "") -> list[Event]:
    agent: Any = opened.model("far")
    with acting_for(Caller(run=run)):
        return [e async for e in agent.run([*before, Said(role="user", content=question)])]


def ended(found: list[Event]) -> Finished:
    assert isinstance(found[-1], Finished)
    return found[-1]


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("binding", [JSONRPC, REST, OLD])
async def test_an_agent_elsewhere_answers_as_one_of_ours(
    tmp_path: Path, binding: tuple[str, str], streaming: bool
) -> None:
    async with (
        elsewhere(binding, streaming=streaming) as there,
        app(tmp_path, there.url, ", token: a-token") as opened,
    ):
        found = await events(opened, "hello")
        assert ended(found).answer.content == "echo hello"
        assert "".join(e.text for e in found if isinstance(e, Text)) == "echo hello"
        assert there.executor.heard == ["hello"]
        assert set(there.keys) == {"Bearer a-token"}
        assert opened.live["agents", "far"].description == "Answers far away."


async def test_pieces_are_told_as_they_come(tmp_path: Path) -> None:
    async with elsewhere() as there, app(tmp_path, there.url) as opened:
        agent: Any = opened.model("far")
        stream = agent.run([Said(role="user", content="slow")])
        assert await anext(stream) == Text("echo ")
        there.executor.go.set()
        assert [e.text async for e in stream if isinstance(e, Text)] == ["slow"]


async def test_an_answer_without_a_task_is_one_too(tmp_path: Path) -> None:
    async with elsewhere() as there, app(tmp_path, there.url) as opened:
        assert ended(await events(opened, "just say")).answer.content == "said"


async def test_of_a_conversation_all_that_was_said_is_sent(tmp_path: Path) -> None:
    before = [
        Said(role="system", content="our own business"),
        Said(role="user", content="one"),
        Said(role="assistant", content="1"),
    ]
    async with elsewhere() as there, app(tmp_path, there.url) as opened:
        await events(opened, "two", *before)
        assert there.executor.heard == ["user: one\n\nassistant: 1\n\nuser: two"]


@pytest.mark.parametrize("streaming", [True, False])
async def test_its_question_is_asked_of_our_person(tmp_path: Path, streaming: bool) -> None:
    async with (
        elsewhere(streaming=streaming) as there,
        app(tmp_path, there.url) as opened,
    ):
        found = await events(opened, "ask", run="r1")
        assert Asked("Which colour?") in found
        assert ended(found).why == "waiting"
        await opened.keeper.answer("r1", "blue")
        found = await events(opened, "ask", run="r1")
        assert ended(found).answer.content == "echo blue"
        assert there.executor.heard == ["ask", "blue"]


@pytest.mark.parametrize(
    ("question", "why"),
    [("fail", "far failed there: no stock"), ("log in", "far wants a login .*: who are you")],
)
async def test_why_there_is_no_answer_is_told(tmp_path: Path, question: str, why: str) -> None:
    async with elsewhere() as there, app(tmp_path, there.url) as opened:
        with pytest.raises(ModelError, match=why):
            await events(opened, question)


async def test_a_card_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    async with elsewhere() as other, elsewhere(place=f"{other.url}/rpc") as there:
        async with app(tmp_path, there.url, ", token: a-token") as opened:
            with pytest.raises(ModelError, match=r"hosts: \[127\.0\.0\.1:\d+\]"):
                await events(opened, "hello")
        assert other.keys == []
        place = other.url.removeprefix("http://")
        async with app(tmp_path, there.url, f", hosts: ['{place}']") as opened:
            assert ended(await events(opened, "hello")).answer.content == "echo hello"


@pytest.mark.parametrize("offered", [("JSONRPC", "2.0"), ("GRPC", "1.0")])
async def test_a_card_of_another_version_or_binding_is_told(
    tmp_path: Path, offered: tuple[str, str]
) -> None:
    async with elsewhere(offered) as there, app(tmp_path, there.url) as opened:
        told = f"its card offers {' '.join(offered)}; .* of protocol 1.0 or 0.3 are spoken here"
        with pytest.raises(ModelError, match=told):
            await events(opened, "hello")
        assert there.executor.heard == []


async def test_a_card_that_is_none_is_told(tmp_path: Path) -> None:
    async with elsewhere() as there:
        for path, why in (
            ("/moved", "sends us elsewhere"),
            ("/broken", "far: "),
            ("/nothing", "404"),
        ):
            async with app(tmp_path, there.url + path) as opened:
                with pytest.raises(ModelError, match=why):
                    await events(opened, "hello")
    async with elsewhere(("GRPC", "1.0")) as there, app(tmp_path, there.url) as opened:
        with pytest.raises(ModelError, match=r"offers GRPC 1\.0"):
            await events(opened, "hello")


async def test_an_agent_that_is_down_stops_neither_the_app_nor_later_questions(
    tmp_path: Path,
) -> None:
    async with app(tmp_path, "http://127.0.0.1:9", ", timeout_s: 5") as opened:
        with pytest.raises(ModelError, match="far: "):
            await events(opened, "hello")


async def test_it_works_for_other_agents(tmp_path: Path) -> None:
    async with elsewhere() as there:
        text = f"""
agents:
  far: {{kind: a2a, url: '{there.url}'}}
  chain:
    kind: graph
    nodes:
      first: {{agent: far, task: "one {{question}}"}}
      second: {{agent: far, task: "two {{first}}"}}
    edges: [{{to: first}}, {{from: first, to: second}}]
"""
        (tmp_path / "app.yml").write_text(text, encoding="utf-8")
        async with open_app(tmp_path) as opened:
            agent: Any = opened.model("chain")
            found = [e async for e in agent.run([Said(role="user", content="q")])]
            assert ended(found).answer.content == "echo two echo one q"


def test_what_is_wrong_with_the_options_is_told(tmp_path: Path) -> None:
    from kickwheel.app import check_app

    for url, why in (("far.example", "begins with http"), ("https://a:b@c.d", "no password")):
        (tmp_path / "app.yml").write_text(f"agents: {{far: {{kind: a2a, url: '{url}'}}}}\n")
        with pytest.raises(ConfigError, match=why):
            check_app(tmp_path)


async def begun(opened: App, run: str = "") -> asyncio.Task[list[Event]]:
    """A run whose task elsewhere is at work, in a trace."""
    said = asyncio.Event()
    agent: Any = opened.model("far")

    async def ask() -> list[Event]:
        found = []
        with acting_for(Caller(run=run)), opened.recorder.trace("far", "far"):
            async with aclosing(agent.run([Said(role="user", content="slow")])) as stream:
                async for event in stream:
                    found.append(event)
                    said.set()
        return found

    asking = asyncio.create_task(ask())
    await asyncio.wait_for(said.wait(), 20)
    return asking


def cancelling(opened: App) -> list[Span]:
    opened.recorder.flush()
    spans = [span for trace in opened.traces.all() for span in trace.spans]
    return [span for span in spans if span.name == "a2a cancel far"]


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("binding", [JSONRPC, REST, OLD])
async def test_a_client_that_goes_away_cancels_the_task_elsewhere(
    tmp_path: Path, binding: tuple[str, str], streaming: bool
) -> None:
    async with (
        elsewhere(binding, streaming=streaming) as there,
        app(tmp_path, there.url) as opened,
    ):
        if streaming:
            asking = await begun(opened)
        else:
            asking = asyncio.create_task(events(opened, "slow"))
            # The card, the message, and a look at its task.
            await eventually(lambda: len(there.keys) > 2)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert len(there.executor.cancelled) == 1
        if streaming:
            (span,) = cancelling(opened)
            assert span.error is None
            assert span.attributes[genai.REMOTE_TASK] == there.executor.cancelled[0]


async def test_a_run_that_is_cancelled_or_out_of_time_cancels_the_task_elsewhere(
    tmp_path: Path,
) -> None:
    async with elsewhere() as there:
        async with app(tmp_path, there.url) as opened:
            asking = await begun(opened, run="r1")
            assert await opened.keeper.cancel("r1")
            with pytest.raises(RunLost):
                await asking
            assert len(there.executor.cancelled) == 1
        async with app(tmp_path, there.url, ", timeout_s: 1") as opened:
            asking = await begun(opened)
            assert ended(await asking).why == "time"
        assert len(there.executor.cancelled) == 2


async def test_a_task_that_cannot_be_cancelled_is_named_in_the_trace(tmp_path: Path) -> None:
    async with elsewhere() as there, app(tmp_path, there.url) as opened:
        there.executor.stubborn = True
        asking = await begun(opened)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        (span,) = cancelling(opened)
        task = span.attributes[genai.REMOTE_TASK]
        assert task
        assert span.error is not None
        assert span.error.startswith(f"far may go on with task {task}: ")


async def test_a_run_that_goes_on_later_leaves_the_task_elsewhere_at_work(tmp_path: Path) -> None:
    async with elsewhere() as there:
        async with app(tmp_path, there.url) as opened:
            asking = await begun(opened, run="r1")
            waiting = await events(opened, "ask", run="r2")
            assert ended(waiting).why == "waiting"
        # The program ended; the next one goes on with both.
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert there.executor.cancelled == []
        async with app(tmp_path, there.url) as opened:
            there.executor.go.set()
            assert ended(await events(opened, "slow", run="r1")).answer.content == "echo slow"
        assert there.executor.heard == ["slow", "ask"]
