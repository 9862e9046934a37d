"""A small server that speaks vLLM's protocol as its documentation has it, and refuses the rest.

Run as a program it takes the arguments of `vllm serve`.
"""

import argparse
import asyncio
import json
import os
from pathlib import Path
from typing import Any

from aiohttp import web

REMOVED = ("guided_json", "guided_choice", "guided_grammar", "guided_regex")
STRUCTURED = {"json", "choice", "grammar", "regex", "structural_tag"}


class FakeVllm:
    def __init__(self, base: str, *, lora: bool = True, key: str | None = None) -> None:
        self.base, self.lora, self.key = base, lora, key
        self.adapters: dict[str, str] = {}
        self.asked: list[tuple[str, Any]] = []

    def app(self) -> web.Application:
        @web.middleware
        async def checked(request: web.Request, handler: Any) -> web.StreamResponse:
            known = request.headers.get("Authorization") == f"Bearer {self.key}"
            if self.key and request.path.startswith("/v1") and not known:
                return web.json_response({"error": "Unauthorized"}, status=401)
            body = await request.json() if request.can_read_body else None
            self.asked.append((request.path, body))
            return await handler(request)  # type: ignore[no-any-return]

        app = web.Application(middlewares=[checked])
        app.router.add_get("/health", self.health)
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1/completions", self.completions)
        if self.lora:
            app.router.add_post("/v1/load_lora_adapter", self.load)
            app.router.add_post("/v1/unload_lora_adapter", self.unload)
        return app

    async def health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def models(self, request: web.Request) -> web.Response:
        names = [self.base, *self.adapters]
        return web.json_response({"object": "list", "data": [{"id": name} for name in names]})

    async def load(self, request: web.Request) -> web.Response:
        body = await request.json()
        name, path = body["lora_name"], body["lora_path"]
        if name in self.adapters:
            return _error(400, f"The lora adapter '{name}' has already been loaded.")
        if not (Path(path) / "adapter_config.json").is_file():
            return _error(404, f"Loading lora {name} failed: No adapter found for {path}")
        self.adapters[name] = path
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def unload(self, request: web.Request) -> web.Response:
        name = (await request.json())["lora_name"]
        if self.adapters.pop(name, None) is None:
            return _error(404, f"The lora adapter '{name}' cannot be found.")
        return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")

    async def chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, lambda text: {"delta": {"content": text}})

    async def completions(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, lambda text: {"text": text})

    async def _answer(self, request: web.Request, piece: Any) -> web.StreamResponse:
        body = await request.json()
        structured = body.get("structured_outputs") or {}
        if any(key in body for key in REMOVED) or set(structured) - STRUCTURED:
            return _error(400, "extra fields are not permitted")
        if body["model"] not in (self.base, *self.adapters):
            return _error(404, f"The model `{body['model']}` does not exist.")
        text = f"I am {body['model']}"
        if "find" in structured.get("grammar", ""):
            text = "find\nkind: music"
        elif "choice" in structured:
            text = structured["choice"][-1]
        elif "json" in structured:
            text = "{}"
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)

        async def send(event: Any) -> None:
            await response.write(
                f"data: {json.dumps({'model': body['model'], **event})}\n\n".encode()
            )

        for start in range(0, len(text), 3):
            choice = {"index": 0, **piece(text[start : start + 3]), "finish_reason": None}
            await send({"choices": [choice]})
        await send({"choices": [{"index": 0, **piece(""), "finish_reason": "stop"}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
            await send({"choices": [], "usage": usage})
        await response.write(b"data: [DONE]\n\n")
        return response


def _error(status: int, message: str) -> web.Response:
    error = {"message": message, "type": "BadRequestError", "param": None, "code": status}
    return web.json_response({"error": error}, status=status)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--enable-lora", action="store_true")
    parser.add_argument("--max-model-len", type=int, default=0)
    asked = parser.parse_args()
    if asked.max_model_len < 0:
        raise SystemExit("ValueError: max_model_len must be positive")
    allowed = os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") == "True"
    fake = FakeVllm(
        asked.model, lora=asked.enable_lora and allowed, key=os.environ.get("VLLM_API_KEY")
    )
    runner = web.AppRunner(fake.app())
    await runner.setup()
    await web.TCPSite(runner, asked.host, asked.port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
