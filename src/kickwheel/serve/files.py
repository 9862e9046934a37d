"""/v1/files: training files, on disk in the store's folder and listed in its database.

Each caller finds what `core.store.sight` shows them.
"""

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Route

from kickwheel.core.errors import UsageError
from kickwheel.core.files import writing
from kickwheel.core.store import EVERYTHING, Sight, Store
from kickwheel.models.caller import Caller
from kickwheel.records import wire
from kickwheel.serve.errors import Refused
from kickwheel.serve.listing import Page, page, read_page
from kickwheel.serve.training import nothing_good

PURPOSES = ("fine-tune",)
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file that somebody brought."""

    id: str
    filename: str
    """As the caller named it; it names nothing on our disk."""
    purpose: str
    bytes: int
    created_at: int
    """Unix time, seconds."""

    def to_openai(self) -> dict[str, Any]:
        """The file as OpenAI's clients read it."""
        return {**asdict(self), "object": "file", "status": "processed", "expires_at": None}


class Files:
    """The files of one store; every method may be called from any thread."""

    def __init__(self, store: Store) -> None:
        self._database = store.database
        self._folder = store.folder / "files"

    def add(self, source: IO[bytes], filename: str, purpose: str, who: Caller) -> StoredFile:
        """Keeps all that `source` holds, as a file of `who`.

        Raises:
            StoreError: the disk is full; nothing was kept.
        """
        identity = "file-" + os.urandom(12).hex()
        with writing(self._folder / identity) as file:
            shutil.copyfileobj(source, file, CHUNK)
            size = file.tell()
        kept = StoredFile(
            id=identity,
            filename=filename,
            purpose=purpose,
            bytes=size,
            created_at=int(time.time()),
        )
        row = (kept.id, kept.created_at, wire.to_bytes(kept), who.tenant, who.user)
        self._database.write(
            lambda c: c.execute(
                "INSERT INTO file (id, created_at, body, tenant, asker) VALUES (?, ?, ?, ?, ?)", row
            )
        )
        return kept

    def get(self, identity: str, sight: Sight = EVERYTHING) -> StoredFile:
        """The file of that id, among those that `sight` shows.

        Raises:
            UsageError: there is none.
        """
        theirs, values = sight.where()
        rows = self._database.read(
            f"SELECT body FROM file WHERE id = ? AND {theirs}", (identity, *values)
        )
        if not rows:
            raise UsageError(f'no file "{identity}" here; client.files.list() shows what there is')
        return wire.from_bytes(rows[0][0], StoredFile)

    def path(self, identity: str, sight: Sight = EVERYTHING) -> Path:
        """Where the file's bytes are.

        Raises:
            UsageError: there is no such file among those that `sight` shows.
        """
        return self._folder / self.get(identity, sight).id

    def all(self, sight: Sight = EVERYTHING) -> Sequence[StoredFile]:
        """Every file that `sight` shows, newest first."""
        theirs, values = sight.where()
        rows = self._database.read(
            f"SELECT body FROM file WHERE {theirs} ORDER BY created_at DESC, rowid DESC", values
        )
        return [wire.from_bytes(row[0], StoredFile) for row in rows]

    def delete(self, identity: str) -> None:
        """Forgets the file; jobs that were created with it keep their copy.

        Raises:
            UsageError: there is no such file.
        """
        path = self.path(identity)
        self._database.write(lambda c: c.execute("DELETE FROM file WHERE id = ?", (identity,)))
        path.unlink(missing_ok=True)


def file_routes(files: Files) -> list[Route]:
    """The routes of /v1/files."""

    async def upload(request: Request) -> JSONResponse:
        async with request.form(max_files=1, max_fields=20) as form:
            purpose, file = form.get("purpose"), form.get("file")
            if not isinstance(file, UploadFile):
                what = "send the file as multipart/form-data in the field «file»"
                raise Refused(400, what, param="file")
            if purpose not in PURPOSES:
                what = f"purpose must be {' or '.join(PURPOSES)}, not {purpose!r}"
                raise Refused(400, what, param="purpose")
            if not file.size:
                raise Refused(400, "the file is empty", param="file")
            name = file.filename or "upload.jsonl"
            who = request.state.caller
            kept = await run_in_threadpool(files.add, file.file, name, purpose, who)
        wrong = await run_in_threadpool(nothing_good, files.path(kept.id), name)
        if wrong is not None:
            await run_in_threadpool(files.delete, kept.id)
            raise Refused(400, wrong, param="file", code="invalid_file")
        return JSONResponse(kept.to_openai())

    def listed(request: Request) -> JSONResponse:
        wanted = request.query_params.get("purpose")
        known = files.all(request.state.caller.sight)
        found = [file for file in known if wanted in (None, file.purpose)]
        asked: Page = read_page(request, most=10_000)
        return JSONResponse(page(found, asked, lambda file: file.id, StoredFile.to_openai))

    def one(request: Request) -> JSONResponse:
        return JSONResponse(_found(files, request).to_openai())

    def content(request: Request) -> FileResponse:
        file = _found(files, request)
        return FileResponse(
            files.path(file.id), media_type="application/octet-stream", filename=file.filename
        )

    def delete(request: Request) -> JSONResponse:
        file = _found(files, request)
        files.delete(file.id)
        return JSONResponse({"id": file.id, "object": "file", "deleted": True})

    return [
        Route("/v1/files", upload, methods=["POST"]),
        Route("/v1/files", listed, methods=["GET"]),
        Route("/v1/files/{identity}", one, methods=["GET"]),
        Route("/v1/files/{identity}/content", content, methods=["GET"]),
        Route("/v1/files/{identity}", delete, methods=["DELETE"]),
    ]


def _found(files: Files, request: Request) -> StoredFile:
    try:
        return files.get(request.path_params["identity"], request.state.caller.sight)
    except UsageError as error:
        raise Refused(404, str(error), param="id", code="file_not_found") from error
