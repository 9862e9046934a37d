"""The bare proxy: aiohttp in front, aiohttp behind, and nothing between.

python bare.py UPSTREAM       prints its URL, then serves until standard input ends
"""

import asyncio
import sys

import aiohttp
import uvloop
from aiohttp import web


async def main(upstream: str) -> None:
    """Passes every request on, until standard input ends."""
    session = aiohttp.ClientSession(
        auto_decompress=False,
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
    )
    hop = {"host", "connection", "transfer-encoding", "content-length", "keep-alive"}

    async def proxy(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {k: v for k, v in request.headers.items() if k.lower() not in hop}
        url = upstream + request.path_qs.removeprefix("/v1")
        async with session.request(request.method, url, data=body, headers=headers) as got:
            kept = {k: v for k, v in got.headers.items() if k.lower() not in hop}
            answer = web.StreamResponse(status=got.status, headers=kept)
            if got.content_length is not None:
                answer.content_length = got.content_length
            await answer.prepare(request)
            async for piece in got.content.iter_any():
                await answer.write(piece)
            await answer.write_eof()
            return answer

    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/v1/{path:.*}", proxy)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()
    await session.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
