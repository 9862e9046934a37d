"""A base being served, whatever happens to the process that serves it.

llama.cpp knows only the adapters that it was started with. So a new adapter starts a second
process with the longer list; new requests go there, the old process ends with its last stream. The
same happens, without the second list, when a process dies.
"""

import asyncio
import logging
import os
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from kickwheel.core.errors import EngineError
from kickwheel.core.files import home
from kickwheel.models import gguf
from kickwheel.models.catalog import Base
from kickwheel.models.engines.adapters import adapter_file, calls_only, check_fits, record_in
from kickwheel.models.engines.process import Process, start
from kickwheel.models.prompt import Template
from kickwheel.records import PromptForm

if TYPE_CHECKING:
    from kickwheel.models.engines.llamacpp import LocalModel

DEATHS, WITHIN_S = 5, 60.0
"""So many deaths in this time, and the engine is given up until the time has passed."""
BACK_OFF_S = 0.25
"""Before the start that follows on a second death; twice as long each further time."""
_log = logging.getLogger("kickwheel.engine")


class Generation:
    """One process, with the adapters that it was started with."""

    def __init__(self, process: Process, adapters: tuple[Path, ...]) -> None:
        self.process = process
        self.adapters = adapters
        self.empty = next((p for p in adapters if p.parent == home() / "nothing"), None)
        self.streams = 0
        self.retired = False

    def lora(self, adapter: Path | None) -> list[dict[str, float]]:
        """The field `lora` of a request for this adapter, or for the base alone."""
        chosen = adapter or self.empty
        return [{"id": self.adapters.index(chosen), "scale": 1.0}] if chosen else []


class Engine:
    """A base and its adapters, served by a process of its own; made by `open_engine`."""

    def __init__(
        self, base: Base, *, threads: int | None, context: int, parallel: int, dry: bool = False
    ) -> None:
        self.base = base
        self.dry = dry
        self.header = gguf.read_header(base.gguf)
        self.threads, self.parallel = threads or default_threads(), parallel
        known = self.header.context_length
        self.context = min(context, known) if known else context
        self.template = _template(self.header, base)
        # llama.cpp closes a connection after an answer or soon; to be the one who finds out costs
        # more than a new connection on the loopback.
        self.session = aiohttp.ClientSession(
            auto_decompress=False,
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        self._generation: Generation | None = None
        self._all: set[Generation] = set()
        self._models: weakref.WeakSet[LocalModel] = weakref.WeakSet()
        self._changing = asyncio.Lock()
        self._deaths: deque[float] = deque(maxlen=DEATHS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def model(
        self, adapter: Path | None = None, name: str = "", form: PromptForm | None = None
    ) -> "LocalModel":
        """The base, or the base with an adapter; ready to answer when this returns.

        Args:
            adapter: its folder, or the GGUF file.
            name: how the model calls itself; by default the base's or the folder's name.
            form: what its prompt holds; by default as the adapter was tuned, else everything.
        Raises:
            DataError: there is no such adapter, or it belongs to another base.
            EngineError: the engine does not start, or does not load the adapter.
        """
        from kickwheel.models.engines.llamacpp import LocalModel

        file = record = None
        if adapter is not None:
            file = adapter_file(adapter)
            check_fits(file, self.base, self.header)
            record = record_in(file.parent)
        name = name or (file.parent.name if file else self.base.name)
        form = form or (record.form if record else PromptForm())
        model = LocalModel(self, name, file, form, calls_only=calls_only(record))
        if not self.dry:
            await self._with(file)
        self._models.add(model)
        return model

    @asynccontextmanager
    async def lease(self, adapter: Path | None) -> AsyncGenerator[Generation]:
        """A living process that has the adapter; it does not end before the block does.

        Raises:
            EngineError: it died again and again, or does not start.
        """
        generation = await self._with(adapter)
        generation.streams += 1
        try:
            yield generation
        finally:
            generation.streams -= 1
            if generation.retired and not generation.streams:
                self._spawn(self._end(generation))

    def bare(self, prompt: str) -> str:
        """The prompt without the token that llama.cpp itself puts in front."""
        bos = self.template.bos
        if bos and self.header.metadata.get("tokenizer.ggml.add_bos_token", False):
            return prompt.removeprefix(bos)
        return prompt

    @property
    def pid(self) -> int | None:
        """The process that new requests go to; `None` while there is none."""
        return self._generation.process.pid if self._generation else None

    async def start(self) -> None:
        """Starts the process."""
        await self._with(None)

    async def close(self) -> None:
        """Ends every process; running streams break."""
        self._closed = True
        async with self._changing:
            await asyncio.gather(*(self._end(generation) for generation in list(self._all)))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.session.close()

    async def _with(self, adapter: Path | None) -> Generation:
        found = self._usable(adapter)
        if found is not None:
            return found
        async with self._changing:
            found = self._usable(adapter)
            if found is not None:
                return found
            if self._closed:
                raise EngineError("the engine was closed")
            await self._back_off()
            wanted = self._there(adapter)
            if wanted:
                wanted.add(await asyncio.to_thread(self._nothing))
            return await self._replace(tuple(sorted(wanted)))

    def _there(self, adapter: Path | None) -> set[Path]:
        """All adapters of living models and this one, as far as their files are there."""
        wanted = {model.adapter for model in self._models} | {adapter}
        found = {path for path in wanted if path is not None and path.exists()}
        if adapter is not None and adapter not in found:
            raise EngineError(f"{adapter} is gone. Tune the adapter again, or use another.")
        # A file that is gone must not keep the base and all others from being served.
        for lost in wanted - found - {None}:
            _log.warning("%s is gone and not served any more", lost)
        return found

    def _nothing(self) -> Path:
        # llama.cpp goes on from what a slot has read, also where an adapter read it and the base
        # is asked: what it reads then is wrong. Between two adapters it looks. So beside adapters
        # the base is asked through one too, that changes nothing.
        file = home() / "nothing" / f"{self.base.sha256[:16]}.gguf"
        if not file.exists():
            gguf.write_empty_adapter(self.header, file)
        return file

    def _usable(self, adapter: Path | None) -> Generation | None:
        current = self._generation
        if current is None or not current.process.alive:
            return None
        return current if adapter is None or adapter in current.adapters else None

    async def _replace(self, adapters: tuple[Path, ...]) -> Generation:
        process = await start(
            {
                "model": str(self.base.gguf),
                "adapters": [str(path) for path in adapters],
                "context": self.context,
                "parallel": self.parallel,
                "threads": self.threads,
                "gpu_layers": -1,
            }
        )
        old, new = self._generation, Generation(process, adapters)
        self._all.add(new)
        self._generation = new
        self._spawn(self._watch(new))
        if old is not None:
            old.retired = True
            if not old.streams:
                self._spawn(self._end(old))
        return new

    async def _watch(self, generation: Generation) -> None:
        status = await generation.process.wait()
        self._all.discard(generation)
        if self._closed or generation.retired:
            return
        self._deaths.append(time.monotonic())
        _log.warning(
            "the engine of %s died (exit %s) and is started again: %s",
            self.base.name,
            status,
            generation.process.said.splitlines()[-1:] or "it said nothing",
        )
        try:
            await self._with(None)
        except EngineError as error:
            _log.error("%s", error)

    async def _back_off(self) -> None:
        """Waits before a start that follows on deaths.

        Raises:
            EngineError: there were too many.
        """
        now = time.monotonic()
        recent = [moment for moment in self._deaths if now - moment < WITHIN_S]
        if len(recent) >= DEATHS:
            raise EngineError(
                f"the engine of {self.base.name} died {DEATHS} times within {WITHIN_S:.0f} s and "
                f"is left alone for {WITHIN_S - now + recent[0]:.0f} s more. Look at what it was "
                "asked; too little memory is the usual reason."
            )
        # The first death is an accident and costs no wait.
        if len(recent) > 1:
            await asyncio.sleep(BACK_OFF_S * 2 ** (len(recent) - 2))

    async def _end(self, generation: Generation) -> None:
        generation.retired = True
        await generation.process.stop()
        self._all.discard(generation)

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@asynccontextmanager
async def open_engine(
    base: Base,
    *,
    threads: int | None = None,
    context: int = 4096,
    parallel: int = 4,
    dry: bool = False,
) -> AsyncGenerator[Engine]:
    """The base served by a process of its own, which ends with the block.

    Args:
        threads: that compute; by default as many as there are cores for us, at most 8.
        context: tokens of one conversation, prompt and answer; at most what the model knows.
        parallel: conversations at once; further ones wait.
        dry: whether nothing is going to be asked, so that no process starts before it is.
    Raises:
        DataError: the base is no GGUF, or has no chat template.
        EngineError: the engine does not start.
        MissingExtra: xllamacpp is not installed.
    """
    engine = Engine(base, threads=threads, context=context, parallel=max(1, parallel), dry=dry)
    try:
        if not dry:
            await engine.start()
        yield engine
    finally:
        await engine.close()


def default_threads() -> int:
    """Threads that compute where nobody says: the cores that we may use, at most 8."""
    return max(1, min(8, len(os.sched_getaffinity(0))))


def _template(header: gguf.Header, base: Base) -> Template:
    from kickwheel.core.errors import DataError

    source = header.chat_template
    if source is None:
        raise DataError(f"{base.gguf}: has no chat template; take an instruct model")
    return Template(source, bos=header.token("bos") or "", eos=header.token("eos") or "")
