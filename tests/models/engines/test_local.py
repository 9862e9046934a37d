"""`kind: local` as an app opens it: refs are followed, engines are shared."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kickwheel.core.errors import UsageError
from kickwheel.core.plugins import Context
from kickwheel.core.store import Store, open_store
from kickwheel.models.chat import ChatRequest, Done, TextDelta, complete
from kickwheel.models.engines.llamacpp import Local
from kickwheel.records import Message
from tests.models.tiny import write_adapter, write_base

REF = "concierge/specialist"
ASKED = ChatRequest(messages=(Message(role="user", content="Who?"),), max_tokens=12)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KICKWHEEL_HOME", str(tmp_path / "home"))
    write_base(tmp_path / "tiny.gguf")


@asynccontextmanager
async def context(folder: Path) -> AsyncGenerator[tuple[Store, Callable[[str], Context]]]:
    async with AsyncExitStack() as stack:
        store = stack.enter_context(open_store(folder / "store"))
        shared: dict[Any, Any] = {}

        async def share(key: Any, make: Callable[[], AbstractAsyncContextManager[Any]]) -> Any:
            if key not in shared:
                shared[key] = await stack.enter_async_context(make())
            return shared[key]

        yield store, lambda name: Context(name, folder, store, share=share)


def kept(store: Store, folder: Path, seed: int) -> str:
    """An adapter in the store, as a ref names it."""
    return f"adapter/{store.artifacts.add('adapter', write_adapter(folder / str(seed), seed=seed))}"


async def text(model: Any) -> str:
    return (await complete(model, ASKED)).message.content or ""


async def until(change: Callable[[], Awaitable[bool]], within_s: float = 20.0) -> bool:
    ends = time.monotonic() + within_s
    while time.monotonic() < ends:
        if await change():
            return True
        await asyncio.sleep(0.05)
    return False


async def test_a_promotion_and_a_rollback_are_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with context(tmp_path) as (store, named):
        part = Local(base="tiny.gguf", adapter=REF, threads=1)
        async with part.open(named("specialist")) as model:
            alone = await text(model)
            assert f"specialist: nothing was promoted to {REF} yet" in caplog.text
            target = kept(store, tmp_path, 2)
            store.refs.move(REF, target, expected=None, why="better")

            async def changed() -> bool:
                return await text(model) != alone

            assert await until(changed)
            promoted = await text(model)
            async with part.open(named("specialist")) as opened_later:
                assert await text(opened_later) == promoted
            store.refs.move(REF, None, expected=target, why="worse")

            async def back() -> bool:
                return await text(model) == alone

            assert await until(back)


async def test_a_stream_ends_on_the_adapter_that_it_began_with(tmp_path: Path) -> None:
    async with context(tmp_path) as (store, named):
        first, second = kept(store, tmp_path, 2), kept(store, tmp_path, 3)
        store.refs.move(REF, first, expected=None, why="")
        async with Local(base="tiny.gguf", adapter=REF, threads=1).open(named("s")) as model:
            long = ChatRequest(messages=ASKED.messages, max_tokens=400)
            alone = (await complete(model, long)).message.content
            before = model.current
            pieces: list[str] = []
            async for delta in model.stream(long):
                if not pieces:
                    store.refs.move(REF, second, expected=first, why="")
                if isinstance(delta, TextDelta):
                    pieces.append(delta.text)
                else:
                    assert isinstance(delta, Done)

            async def moved() -> bool:
                return model.current is not before

            assert await until(moved)
            assert "".join(pieces) == alone


async def test_a_request_waits_for_what_was_just_promoted(tmp_path: Path) -> None:
    async with context(tmp_path) as (store, named):
        part = Local(base="tiny.gguf", adapter=REF, threads=1)
        async with part.open(named("specialist")) as model:
            alone = await text(model)
            store.refs.move(REF, kept(store, tmp_path, 2), expected=None, why="better")

            async def opening() -> bool:
                return model.opening is not None or model.current.adapter is not None

            assert await until(opening)
            assert await text(model) != alone


async def test_a_ref_to_what_cannot_be_served_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        context(tmp_path) as (store, named),
        Local(base="tiny.gguf", adapter=REF, threads=1).open(named("s")) as model,
    ):
        alone = await text(model)
        wide = write_adapter(tmp_path / "wide", width=128)
        target = f"adapter/{store.artifacts.add('adapter', wide)}"
        store.refs.move(REF, target, expected=None, why="")

        async def told() -> bool:
            return "an adapter for another base" in caplog.text

        assert await until(told)
        assert await text(model) == alone


async def test_models_on_one_base_share_an_engine(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "own")
    async with context(tmp_path) as (_, named):
        base = Local(base="tiny.gguf", threads=1)
        own = Local(base="tiny.gguf", adapter=folder.name, threads=1)
        async with base.open(named("base")) as one, own.open(named("own")) as two:
            assert one.engine is two.engine
            assert (one.name, two.name) == ("base", "own")
            assert await text(one) != await text(two)


async def test_an_unknown_base_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    async with context(tmp_path) as (_, named):
        with pytest.raises(UsageError, match=r'no base "smolm2".*Did you mean "smollm2-135m"'):
            async with Local(base="smolm2").open(named("s")):
                pass


async def test_a_text_is_gone_on_with_as_it_stands(tmp_path: Path) -> None:
    bare = ChatRequest(messages=(), max_tokens=8)
    async with context(tmp_path) as (_, named):
        part = Local(base="./tiny.gguf", threads=1, parallel=1)
        async with part.open(named("desk")) as model:
            pieces = [piece async for piece in model.continuation("Once upon a", bare)]
            once = await model.continued("Once upon a", 8)
    done = pieces[-1]
    assert isinstance(done, Done)
    assert done.usage.output_tokens <= 8
    assert "".join(piece.text for piece in pieces if isinstance(piece, TextDelta)) == once
