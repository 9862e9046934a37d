import asyncio
import re
from pathlib import Path
from typing import Any

from aiohttp import web

from kickwheel.app import check_app
from kickwheel.serve.recorded import Upstream
from tests.models.loopback import loopback
from tests.serve.conftest import Rooms, running
from tests.serve.recorded.test_passing import WHOLE

PAGE = Path(__file__).parents[3] / "docs" / "recorder.md"


async def test_what_the_page_shows_runs(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response(WHOLE)

    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    async with loopback(answer) as there:
        with running(tmp_path, Rooms(), upstream=Upstream(f"{there.url}/v1")) as served:
            for block in blocks:
                code = block.replace("http://127.0.0.1:8000", served.url)
                await asyncio.to_thread(exec, code, names)
            served.recorder.flush()
            (trace,) = served.traces.all("desk")
    assert len(blocks) == 2
    assert trace.feedback[0].verdict == "bad"


def test_the_apps_of_the_page_are_right(tmp_path: Path) -> None:
    for app in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL):
        (tmp_path / "app.yml").write_text(app)
        assert check_app(tmp_path).config.serve.record == "big"
