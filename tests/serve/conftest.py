"""A real server on loopback, around models that answer by rule."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openai import OpenAI

from kickwheel.core.errors import ModelError, UsageError
from kickwheel.core.plugins import nearest
from kickwheel.core.store import Store, open_store
from kickwheel.models.caller import whose
from kickwheel.models.chat import CallDelta, ChatRequest, Delta, Done, Model, TextDelta, Usage
from kickwheel.records import Message
from kickwheel.serve.house import ModelCard
from kickwheel.serve.recorded import Upstream, passing
from kickwheel.serve.server import Front, loop_factory, serve
from kickwheel.trace.record import Recorder, span
from kickwheel.trace.store import Traces
from tests.wires.openai import Watched


class Echo:
    """Says the last message again, a word a piece; remembers what it was asked."""

    name = "echo"

    def __init__(self) -> None:
        self.asked: list[ChatRequest] = []

    async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        self.asked.append(request)
        words = (request.messages[-1].content or "").split(" ")
        for position, word in enumerate(words):
            yield TextDelta(word if position == 0 else " " + word)
        usage = Usage(prompt_tokens=7, output_tokens=len(words), cached_tokens=2)
        yield Done("stop", usage, "echo-0.1")


class Caller:
    """Calls the first two tools that it is offered, in pieces."""

    name = "caller"

    async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        for index, tool in enumerate(request.tools[:2]):
            yield CallDelta(index, id=f"call_{index}", name=tool.name)
            yield CallDelta(index, '{"city": ')
            yield CallDelta(index, f'"Rome {index}"}}')
        yield Done("tool_calls", Usage(prompt_tokens=20, output_tokens=12))


class Slow:
    """Gives a piece every 20 ms, a thousand of them; counts those who left early."""

    name = "slow"

    def __init__(self) -> None:
        self.running = 0
        self.cancelled = threading.Event()
        self.pieces = 1000

    async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        self.running += 1
        try:
            for _ in range(self.pieces):
                yield TextDelta("tick ")
                await asyncio.sleep(0.02)
            yield Done("stop", Usage(prompt_tokens=1, output_tokens=self.pieces))
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise
        finally:
            self.running -= 1


class Broken:
    """Raises `error` after `pieces` pieces."""

    name = "broken"

    def __init__(self, error: Exception, pieces: int = 0) -> None:
        self.error = error
        self.pieces = pieces

    async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        for _ in range(self.pieces):
            yield TextDelta("so far ")
        raise self.error


class Agent:
    """Asks another model and says what it said, as an agent does."""

    name = "agent"

    def __init__(self, model: Model) -> None:
        self._model = model

    async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        with span("model", self._model.name) as asked:
            asked.input = request.messages
            async for delta in self._model.stream(request):
                if isinstance(delta, TextDelta):
                    asked.output = (Message(role="assistant", content="said"),)
                yield delta


@dataclass
class Rooms:
    """A house whose models the test changes as it likes."""

    live: dict[str, Model] = field(default_factory=dict)
    cards: dict[str, ModelCard] = field(default_factory=dict)
    missing: str | None = None
    made: Path | None = None
    """Where the runners of jobs leave the names of what they made."""

    def models(self) -> Sequence[ModelCard]:
        return [self.cards.get(name, ModelCard(id=name, created=1)) for name in self.live]

    async def model(self, name: str) -> Model:
        if self.made is not None and any(f.read_text() == name for f in self.made.iterdir()):
            self.live[name] = Echo()
        if name not in self.live:
            raise UsageError(f'no model "{name}" here. {nearest(name, self.live)}')
        return self.live[name]

    def ready(self) -> str | None:
        return self.missing


@pytest.fixture
def rooms() -> Rooms:
    echo = Echo()
    return Rooms(
        live={
            "echo": echo,
            "caller": Caller(),
            "slow": Slow(),
            "agent": Agent(echo),
            "busy": Broken(ModelError("too many at once", status=429, retry_after_s=1.5)),
            "torn": Broken(ModelError("the engine died"), pieces=2),
            "bug": Broken(ZeroDivisionError("secret detail")),
            "base": echo,
        },
        cards={
            "agent": ModelCard(id="agent", kind="agent"),
            "base": ModelCard(id="base", tunable=True, context=50, created=9),
        },
    )


@dataclass
class Served:
    """A running server and what stands behind it."""

    url: str
    rooms: Rooms
    store: Store
    traces: Traces
    recorder: Recorder
    stop: Callable[[], None]

    def client(self, **options: Any) -> OpenAI:
        """The official client, as anybody would make it."""
        return OpenAI(base_url=f"{self.url}/v1", **{"api_key": "none", "max_retries": 0, **options})


@contextmanager
def running(
    folder: Path,
    rooms: Rooms,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    upstream: Upstream | None = None,
    **options: Any,
) -> Iterator[Served]:
    """The server in a thread, with a store in `folder`; stopped gently at the end.

    Args:
        upstream: where what is asked of projects passes on to, and is recorded.
    """
    ready: threading.Event = threading.Event()
    told: dict[str, Any] = {}
    with open_store(folder) as store, Recorder(Traces(store), whose=whose) as recorder:
        traces = Traces(store)

        async def main() -> None:
            told["loop"] = asyncio.get_running_loop()
            told["task"] = asyncio.current_task()

            def on_ready(url: str) -> None:
                told["url"] = url
                ready.set()

            async with AsyncExitStack() as stack:
                if upstream is not None:
                    keyed = bool(options.get("keys"))
                    options["recorded"] = await stack.enter_async_context(
                        passing(upstream, recorder, keyed=keyed)
                    )
                front = Front(rooms, store, traces, recorder, **options)
                watched = told["watched"] = Watched(front.counted)
                front.counted = watched
                await serve(front, host, port, on_ready=on_ready)

        def run() -> None:
            try:
                with asyncio.Runner(loop_factory=loop_factory()) as runner:
                    runner.run(main())
            except asyncio.CancelledError:
                pass
            except BaseException as error:
                told["error"] = error
            finally:
                ready.set()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert ready.wait(20)
        if "error" in told:
            raise told["error"]

        def stop() -> None:
            told["loop"].call_soon_threadsafe(told["task"].cancel)

        try:
            yield Served(told["url"], rooms, store, traces, recorder, stop)
        finally:
            if thread.is_alive():
                stop()
            thread.join(20)
            assert not thread.is_alive()
        assert not told["watched"].faults


@pytest.fixture
def served(tmp_path: Path, rooms: Rooms) -> Iterator[Served]:
    with running(tmp_path / "store", rooms) as server:
        yield server


def lines(*entries: Mapping[str, Any]) -> bytes:
    """A JSONL file."""
    return b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)


def an_example(number: int) -> dict[str, Any]:
    """A line of a training file."""
    return {
        "messages": [
            {"role": "user", "content": f"question {number}"},
            {"role": "assistant", "content": f"answer {number}"},
        ]
    }
