"""The one fine-tuning job that runs, in a process of its own.

A process, so that serving stays responsive and a job can be stopped at once. What the server was
doing when it died, even by SIGKILL, is taken up again from the store: tuning goes on from its
checkpoint. Two servers on one store do not work on the same jobs: one holds the lock.
"""

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kickwheel.core.errors import KickwheelError, StoreError
from kickwheel.core.files import only_one
from kickwheel.records import wire
from kickwheel.serve.house import House
from kickwheel.serve.job import WAITING, Job, JobEvent, Jobs
from kickwheel.serve.training import check_training_file

LOG = "log.txt"
STOP_S = 5.0
"""Time that a job has to end by itself before it is killed."""
LOCK_S = 2.0
LOOK_S = 2.0
LINE_BYTES = 1 << 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Runner:
    """The function that does a job, called in the job's process.

    It is called as `function(spec: JobSpec, on_event: OnEvent, **given)`, and returns the name
    under which the finished model answers, usually `spec.output`. When it returns, the house must
    find a model of that name. Called again with the same `spec`, it goes on where it was killed.
    A `KickwheelError` becomes the job's error word for word.
    """

    function: str
    """`package.module:name`."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments: plain values that JSON can hold."""


class Worker:
    """Takes up jobs one after another, oldest first, while `run` runs."""

    def __init__(self, jobs: Jobs, house: House, runner: Runner | None) -> None:
        self._jobs = jobs
        self._house = house
        self._runner = runner
        self._wake = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._current: str | None = None

    def wake(self) -> None:
        """There may be a new job."""
        self._wake.set()

    async def run(self) -> None:
        """Works until it is cancelled; a job that runs then is ended, and taken up again later."""
        told = False
        while True:
            try:
                with only_one(self._jobs.folder / "worker.lock", "a worker for fine-tuning jobs"):
                    await self._work()
            except StoreError as error:
                if not told:
                    # As with several processes behind one port, of which one has them.
                    _log.info("Fine-tuning jobs are another process's: %s", error)
                told = True
                await asyncio.sleep(LOCK_S)

    async def stop(
        self, identity: str, status: Literal["cancelled", "paused"], told: str
    ) -> Job | None:
        """The job with that status, its process ended; `None` where it had ended already."""
        ended = {"finished_at": int(time.time())} if status == "cancelled" else {}
        only = (*WAITING, "paused") if status == "cancelled" else WAITING
        changed = await asyncio.to_thread(
            self._jobs.change, identity, only, status=status, estimated_finish=None, **ended
        )
        if changed is not None:
            await asyncio.to_thread(self._jobs.say, identity, JobEvent(message=told))
            if self._current == identity:
                await self._end()
        return changed

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            job = await asyncio.to_thread(self._jobs.next)
            if job is None:
                # Another server on the store may take jobs too, and cannot wake this one.
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), LOOK_S)
                continue
            self._current = job.spec.id
            try:
                await self._do(job)
            except StoreError:
                raise
            except Exception as error:
                _log.exception("Fine-tuning job %s", job.spec.id)
                await self._fail(job, f"{type(error).__name__}: {error}")
            finally:
                await self._end()
                self._current = None

    async def _do(self, job: Job) -> None:
        problem = await asyncio.to_thread(self._problem, job)
        if problem is not None:
            await self._fail(job, problem[1], code="invalid_" + problem[0], param=problem[0])
            return
        if self._runner is None:
            await self._fail(job, "This server was started without a way to tune models.")
            return
        identity = job.spec.id
        if not await self._change(identity, status="queued"):
            return
        await self._say(identity, "The files are good; the job is queued.")
        if not await self._change(identity, status="running"):
            return
        await self._say(identity, "The job is running.")
        name, failure = await self._run(job, self._runner)
        if name is None:
            if failure is not None:
                await self._fail(job, failure)
            return
        try:
            # Succeeded means that it answers.
            await self._house.model(name)
        except KickwheelError as error:
            await self._fail(job, f"The model was tuned but does not open: {error}")
            return
        done = {"fine_tuned_model": name, "finished_at": int(time.time())}
        if await self._change(identity, status="succeeded", estimated_finish=None, **done):
            await self._say(identity, f"The job is done: ask the model {name}.")

    async def _run(self, job: Job, runner: Runner) -> tuple[str | None, str | None]:
        """The finished model's name, or why there is none; neither where the job was stopped."""
        order = {
            "function": runner.function,
            "given": dict(runner.given),
            "job": wire.to_plain(job.spec),
        }
        log = Path(job.spec.folder) / LOG
        with log.open("ab") as errors:
            self._process = process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "kickwheel.serve.child",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=LINE_BYTES,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(ConnectionError):
            process.stdin.write(json.dumps(order).encode() + b"\n")
            await process.stdin.drain()
        async for line in process.stdout:
            told = json.loads(line)
            if "event" in told:
                await self._tell(job, wire.from_plain(told["event"], JobEvent))
            elif "finished" in told:
                return str(told["finished"]), None
            else:
                return None, str(told["failed"])
        code = await process.wait()
        if self._jobs.get(job.spec.id).status != "running":
            return None, None
        why = "it was killed, perhaps for want of memory" if code == -9 else f"exit status {code}"
        return None, f"The tuning process ended without a result: {why}. Its log is {log}."

    async def _tell(self, job: Job, event: JobEvent) -> None:
        await asyncio.to_thread(self._jobs.say, job.spec.id, event)
        changes: dict[str, Any] = {}
        if isinstance(left := event.data.get("seconds_left"), int | float):
            changes["estimated_finish"] = int(time.time() + left)
        if isinstance(tokens := event.data.get("trained_tokens"), int):
            changes["trained_tokens"] = tokens
        if not await self._change(job.spec.id, **changes):
            # Stopped through another server.
            await self._end()

    async def _end(self) -> None:
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._process is process:
            self._process = None

    async def _change(self, identity: str, **changes: Any) -> bool:
        return await asyncio.to_thread(self._jobs.change, identity, WAITING, **changes) is not None

    async def _say(self, identity: str, message: str) -> None:
        await asyncio.to_thread(self._jobs.say, identity, JobEvent(message=message))

    async def _fail(
        self, job: Job, message: str, *, code: str = "training_failed", param: str | None = None
    ) -> None:
        failed = await self._change(
            job.spec.id,
            status="failed",
            finished_at=int(time.time()),
            estimated_finish=None,
            error={"code": code, "message": message, "param": param},
        )
        if failed:
            event = JobEvent(message=message, level="error")
            await asyncio.to_thread(self._jobs.say, job.spec.id, event)

    def _problem(self, job: Job) -> tuple[str, str] | None:
        """Which file cannot be used, and why."""
        cards = {card.id: card.context for card in self._house.models()}
        for param, path, least in (
            ("training_file", job.spec.training_file, None),
            ("validation_file", job.spec.validation_file, 1),
        ):
            if path is None:
                continue
            checked = check_training_file(
                Path(path), getattr(job, param), cards.get(job.spec.model)
            )
            problem = checked.problem() if least is None else checked.problem(least)
            if problem is not None:
                return param, problem
        return None
