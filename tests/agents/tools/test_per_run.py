import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kickwheel.agents.tools.per_run import per_run
from kickwheel.core.errors import ToolError
from kickwheel.core.store import open_store
from kickwheel.trace.record import Recorder, span
from kickwheel.trace.store import Traces


class Desk:
    """Counts what is opened and closed."""

    def __init__(self) -> None:
        self.opened = self.closed = 0

    @asynccontextmanager
    async def make(self) -> AsyncIterator[int]:
        self.opened += 1
        await asyncio.sleep(0)
        try:
            yield self.opened
        finally:
            self.closed += 1


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    with open_store(tmp_path) as store, Recorder(Traces(store)) as made:
        yield made


async def test_a_request_keeps_its_thing_in_all_its_spans_and_tasks(recorder: Recorder) -> None:
    desk = Desk()

    async with per_run(desk.make) as things:

        async def call() -> int:
            with span("tool", "desk"):
                async with things.use() as thing:
                    return thing

        with recorder.trace("a", "a"):
            assert await asyncio.gather(call(), call(), call()) == [1, 1, 1]
        with recorder.trace("a", "a"):
            assert await call() == 2
    assert (desk.opened, desk.closed) == (2, 2)


async def test_a_thing_closes_soon_after_its_request_and_not_while_it_is_used(
    recorder: Recorder,
) -> None:
    desk = Desk()
    async with per_run(desk.make) as things:
        with recorder.trace("a", "a"):
            using = things.use()
            await using.__aenter__()
        await asyncio.sleep(0.8)
        assert desk.closed == 0
        await using.__aexit__(None, None, None)
        async with asyncio.timeout(10):
            while not desk.closed:  # noqa: ASYNC110  Nothing tells us.
                await asyncio.sleep(0.05)


async def test_what_did_not_open_is_tried_again() -> None:
    tries = 0

    @asynccontextmanager
    async def make() -> AsyncIterator[str]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ToolError("not yet")
        yield "there"

    async with per_run(make, most=1) as things:
        with pytest.raises(ToolError, match="not yet"):
            async with things.use():
                pass
        async with things.use() as thing:
            assert thing == "there"


async def test_there_are_only_so_many(recorder: Recorder) -> None:
    async with per_run(Desk().make, most=1) as things, things.use():
        with recorder.trace("a", "a"), pytest.raises(ToolError, match="1 requests use this"):
            async with things.use():
                pass
