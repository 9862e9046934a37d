"""`kind: vllm`: a base on GPUs with adapters beside it, served by vLLM here or at a URL.

With an adapter the prompt and the grammar are ours, as for `local`: the adapter is asked as it was
tuned. Without one the request goes through the server's own chat route.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import SecretStr

from kickwheel.core.config import key_from
from kickwheel.core.errors import UsageError
from kickwheel.core.plugins import Context, Part
from kickwheel.models import catalog
from kickwheel.models.checkpoint import read_template
from kickwheel.models.engines.follow import Following, following
from kickwheel.models.engines.vllm_models import AdaptedModel, ChatModel, adapted
from kickwheel.models.engines.vllm_server import Server, started
from kickwheel.models.prices import Prices
from kickwheel.models.wire import new_session


class Vllm(Part):
    """A base on GPUs, with adapters beside it, served by vLLM."""

    url: str | None = None
    """A running server, with the version: `http://gpu-1:8000/v1`. Adapters need it to be started
    with `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, and to see the store's folder
    under the same path. Without a URL a server is started here and ends with the app."""
    base: str | None = None
    """A folder with safetensors, or `hf:org/name`; needed to start a server and for adapters."""
    model: str | None = None
    """The base's name on the server; by default the first that the server lists."""
    adapter: str | None = None
    """A ref, which is followed, or the folder of an adapter; as in `local`."""
    api_key: SecretStr | None = None
    """Write `${NAME}` for the value of a variable."""
    arguments: tuple[str, ...] = ()
    """Further arguments of `vllm serve`, such as `--max-model-len=8192`."""
    prices: Prices | None = None
    """What tokens cost there; without, no cost is told."""

    def mistakes(self, folder: Path) -> Iterable[tuple[str, str]]:
        """A base that is needed and not named, or does not exist."""
        if self.base is None:
            if self.url is None or self.adapter is not None:
                why = (
                    "adapters are asked in the base's template" if self.url else "to start a server"
                )
                yield "base", f"vllm needs `base`: {why}"
            return
        place = folder / Path(self.base).expanduser()
        if not self.base.startswith("hf:") and not (place / "config.json").is_file():
            yield "base", f"{place}: no folder with safetensors and config.json, and no hf:org/name"

    @asynccontextmanager
    async def open(
        self, context: Context
    ) -> AsyncGenerator[ChatModel | AdaptedModel | Following[AdaptedModel]]:
        """The model, answering as soon as the block begins."""
        for key, wrong in self.mistakes(context.folder):
            raise UsageError(f"models.{context.name}.{key}: {wrong}")
        folder = None
        if self.base is not None:
            here = context.folder / self.base
            name = str(here) if here.exists() else self.base
            folder = await asyncio.to_thread(catalog.checkpoint, name)
        server: Server = await context.share(
            ("vllm", self.url, str(folder), self.arguments), lambda: self._server(folder)
        )
        base = self.model or await server.first_model()

        async def with_adapter(adapter: Path | None) -> AdaptedModel:
            assert folder is not None
            template = read_template(folder)
            return await adapted(server, context.name, base, adapter, template, self.prices)

        if self.adapter is None:
            yield ChatModel(server, context.name, base, self.prices)
        elif (context.folder / self.adapter).exists():
            model = await with_adapter(context.folder / self.adapter)
            try:
                yield model
            finally:
                await model.retire()
        else:
            async with following(
                context, self.adapter, with_adapter, Following, AdaptedModel.retire
            ) as followed:
                yield followed

    @asynccontextmanager
    async def _server(self, folder: Path | None) -> AsyncGenerator[Server]:
        key = key_from(self.api_key.get_secret_value()) if self.api_key else None
        if self.url is not None:
            async with new_session() as session:
                yield Server(session, self.url, key)
        else:
            assert folder is not None
            async with started(folder, self.arguments, key) as server:
                yield server
