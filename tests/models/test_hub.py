"""`hf:org/name`, against a small hub on the loopback."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kickwheel.models import gguf

from .test_checkpoint import write_folder
from .tiny import write_base

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A hub with one model, `kickwheel/tiny`: its address, and what was asked of it."""
    tensors = gguf.weights(write_base(tmp_path / "tiny.gguf"))
    folder = write_folder(tmp_path / "folder", tensors)
    (folder / "README.md").write_text("not wanted")
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            path = self.path.partition("?")[0]
            file = folder / path.rpartition("/")[2]
            if path.startswith(f"/api/models/kickwheel/tiny/tree/{COMMIT}"):
                files = [
                    {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": f.name}
                    for f in folder.iterdir()
                ]
                self.answer(json.dumps(files).encode())
            elif path.startswith("/api/models/kickwheel/tiny"):
                names = [{"rfilename": entry.name} for entry in folder.iterdir()]
                about = {"id": "kickwheel/tiny", "sha": COMMIT, "siblings": names}
                self.answer(json.dumps(about).encode())
            elif path.startswith("/kickwheel/tiny/resolve/") and file.is_file():
                self.answer(file.read_bytes())
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        do_HEAD = do_GET

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{sha1(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def pull(name: str, home: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
    # The hub's client reads its address when it is imported.
    program = f"from kickwheel.models.catalog import pull; print(pull({name!r}).gguf)"
    environment = {**os.environ, "KICKWHEEL_HOME": str(home), "HF_ENDPOINT": endpoint}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_model_of_the_hub_is_fetched_and_served(
    tmp_path: Path, hub: tuple[str, list[str]]
) -> None:
    endpoint, asked = hub
    done = pull("hf:kickwheel/tiny", tmp_path / "home", endpoint)
    assert done.returncode == 0, done.stderr
    made = Path(done.stdout.strip())
    assert gguf.read_header(made).architecture == "llama"
    assert not any("README" in path for path in asked)


def test_a_model_that_the_hub_does_not_have_is_told(
    tmp_path: Path, hub: tuple[str, list[str]]
) -> None:
    done = pull("hf:kickwheel/big", tmp_path / "home", hub[0])
    assert done.returncode != 0
    assert "hf:kickwheel/big could not be fetched" in done.stderr.splitlines()[-1]
