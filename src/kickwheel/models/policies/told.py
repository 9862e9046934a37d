"""One answer, told to all who listen: each hears it from its beginning.

The model is asked by a task of its own. One listener that leaves changes nothing for the others;
when the last one leaves, the model is stopped.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from kickwheel.models.chat import Delta, Done
from kickwheel.models.policies.wrapped import reading


class Told:
    """An answer on its way."""

    def __init__(self, deltas: AsyncIterator[Delta]) -> None:
        loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[None] = loop.create_future()
        """Done with the first piece, or with the error that came instead of it."""
        self.begun.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.ended = False
        """Whether all was told, or what was told is all that will be."""
        self._pieces: list[Delta] = []
        self._error: BaseException | None = None
        self._listeners: set[object] = set()
        self._payer: object | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._task = asyncio.create_task(self._tell(deltas))

    async def listen(self) -> AsyncGenerator[tuple[Delta, bool]]:
        """Every piece, and whether the listener is the one whom the answer is charged to: the
        first who hears its end.

        Raises:
            ModelError: the model did not answer, or broke off.
        """
        me = object()
        self._listeners.add(me)
        position = 0
        try:
            while True:
                while position < len(self._pieces):
                    piece = self._pieces[position]
                    if self._payer is None and isinstance(piece, Done):
                        self._payer = me
                    yield piece, self._payer is me
                    position += 1
                if self._error is not None:
                    raise self._error
                if self.ended:
                    return
                more = asyncio.get_running_loop().create_future()
                self._waiting.append(more)
                await more
        finally:
            self._listeners.remove(me)
            if not self._listeners:
                await self.stop()

    async def stop(self) -> None:
        """Stops the model, and returns when it has stopped."""
        self.ended = True
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _tell(self, deltas: AsyncIterator[Delta]) -> None:
        try:
            async with reading(deltas):
                async for delta in deltas:
                    self._pieces.append(delta)
                    if not self.begun.done():
                        self.begun.set_result(None)
                    self._wake()
        except Exception as error:
            self._error = error
            if not self.begun.done():
                self.begun.set_exception(error)
        finally:
            self.ended = True
            self.begun.cancel()
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
