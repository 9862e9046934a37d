"""The floor behind HTTP: the same two calls, answered in OpenAI's form by aiohttp's server."""

import json
import sys

import aiohttp
import floor
from aiohttp import web


def main() -> None:
    url, port = sys.argv[1], int(sys.argv[2])
    app = web.Application()

    async def session(app: web.Application):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as opened:
            app["session"] = opened
            yield

    async def answer(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        stream, question = bool(asked.get("stream")), asked["messages"][-1]["content"]
        text = await floor.answer(request.app["session"], url, question, stream)
        if not stream:
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return web.json_response({"object": "chat.completion", "choices": [choice]})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": "stop"}
        data = json.dumps({"object": "chat.completion.chunk", "choices": [choice]})
        await response.write(f"data: {data}\n\ndata: [DONE]\n\n".encode())
        return response

    app.cleanup_ctx.append(session)
    app.router.add_post("/v1/chat/completions", answer)
    app.router.add_get("/health", lambda request: web.Response())
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


main()
