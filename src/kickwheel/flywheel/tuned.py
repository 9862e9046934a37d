"""An adapter, tuned and compared on the engine that will serve it, as the files of its artifact."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from kickwheel.core.errors import DataError
from kickwheel.core.files import home
from kickwheel.flywheel.evaluate import match
from kickwheel.flywheel.tune import SERVED, Options, Progress, check_export, lora
from kickwheel.models import calls, gguf
from kickwheel.models.catalog import Base, weights
from kickwheel.models.engines.engine import open_engine
from kickwheel.records import Adapter, Dataset, Example, Message, wire

CHECKED = 40
"""Validation examples on which the export is compared with the model that was tuned."""
FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter.gguf")

Door = Callable[[str, int], Awaitable[str]]


def tuned(
    dataset: Dataset,
    identity: str,
    base: Base,
    work: Path,
    options: Options,
    *,
    on_step: Callable[[Progress], None],
    on_check: Callable[[], None],
) -> dict[str, bytes]:
    """The files of an adapter tuned on the dataset, its export checked.

    Started again with the same `work` it goes on where it was killed.

    Args:
        identity: the dataset's id, for the record.
        work: folder for checkpoints; not needed once the files are kept.
        on_step: told after each step of the training.
        on_check: told when the training has ended and the check begins.
    Raises:
        DataError: there is too little to learn from, an example is longer than the context, or
            the base is of a kind whose adapters the engine does not take.
        ExportMismatch: the engine does not answer as the tuned model does.
    """
    architecture = gguf.read_header(base.gguf).architecture
    if architecture not in SERVED:
        raise DataError(
            f"{base.name} is a {architecture}, whose adapters could not be served: llama.cpp takes "
            f"those for {', '.join(SERVED)}. Tune a base of one of these."
        )
    adapter = lora(dataset, weights(base), work, options, base_name=base.name, on_step=on_step)
    on_check()
    found = asyncio.run(_checked(dataset, adapter, work, base))
    adapter = replace(adapter, dataset=identity, export_check=found)
    files = {name: (work / name).read_bytes() for name in FILES}
    return {**files, "adapter.json": wire.to_bytes(adapter)}


async def _checked(dataset: Dataset, adapter: Adapter, folder: Path, base: Base) -> dict[str, Any]:
    examples = (dataset.part("validation") or dataset.part("train"))[:CHECKED]
    exact = await asyncio.to_thread(_unquantised, base)
    left = threading.Event()

    def go_on() -> None:
        if left.is_set():
            raise CancelledError

    async with _door(base, folder) as served, _door(exact, folder) as unquantised:
        try:
            return await asyncio.to_thread(
                check_export,
                folder,
                adapter,
                weights(base),
                examples,
                right=_right,
                served=served,
                unquantised=unquantised,
                on_token=go_on,
            )
        finally:
            # A Ctrl-C ends the waiting, not the thread, and the program ends with its threads.
            left.set()


@asynccontextmanager
async def _door(base: Base, adapter: Path) -> AsyncGenerator[Door]:
    """A door that may be used from another thread's event loop."""
    loop = asyncio.get_running_loop()
    async with open_engine(base) as engine:
        model = await engine.model(adapter)

        async def ask(prompt: str, max_tokens: int) -> str:
            asked = asyncio.run_coroutine_threadsafe(model.continued(prompt, max_tokens), loop)
            return await asyncio.wrap_future(asked)

        yield ask


def _unquantised(base: Base) -> Base:
    """The same weights in F16."""
    file = home() / "models" / f"f16-{base.sha256[:16]}.gguf"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        gguf.requantise(base.gguf, file, "F16")
    return replace(base, gguf=file)


def _right(example: Example, text: str) -> bool:
    found = calls.read(text, example.tools) if example.kind == "call" else None
    message = Message(role="assistant", content=None if found else text, tool_calls=found or ())
    return match.judge(message, example).right
