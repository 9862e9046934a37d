"""Runs a program inside the sandbox; see `linked`. Read as a file there, so it imports nothing of
ours."""

import ast
import asyncio
import inspect
import itertools
import json
import random
import sys
from pathlib import Path
from typing import Any

LINK, PROGRAM, NAMES = Path(".link"), Path("/program.py"), Path("/names.json")
LONGEST = 8 << 20


async def main(names: str, source: str) -> None:
    """Runs the program, and says what came of it."""
    reader, writer = await asyncio.open_unix_connection(LINK, limit=LONGEST)
    waiting: dict[int, asyncio.Future[Any]] = {}
    numbers = itertools.count()

    def function(name: str) -> Any:
        async def call(*positional: Any, **given: Any) -> Any:
            number = next(numbers)
            waiting[number] = asyncio.get_running_loop().create_future()
            said = {"call": number, "name": name, "positional": positional, "given": given}
            writer.write(json.dumps(said, default=str).encode() + b"\n")
            await writer.drain()
            return await waiting[number]

        return call

    async def listen() -> None:
        while line := await reader.readline():
            told = json.loads(line)
            future = waiting.pop(told["call"])
            if "error" in told:
                future.set_exception(RuntimeError(told["error"]))
            else:
                future.set_result(told["value"])

    listening = asyncio.create_task(listen())
    end = await run({name: function(name) for name in json.loads(names)}, source)
    writer.write(json.dumps({"end": end}, default=str).encode() + b"\n")
    await writer.drain()
    listening.cancel()


async def run(names: dict[str, Any], source: str) -> dict[str, Any]:
    """The value of the last line, or what went wrong and where."""
    random.seed(0)
    try:
        tree = ast.parse(source, "<program>")
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = tree.body[-1]
            target = ast.Name("_value", ast.Store())
            tree.body[-1] = ast.copy_location(ast.Assign([target], last.value), last)
            ast.fix_missing_locations(tree)
        compiled = compile(tree, "<program>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as error:
        return {"error": f"SyntaxError: {error.msg}", "line": error.lineno, "why": "syntax"}
    names["__name__"] = "__main__"
    try:
        running = eval(compiled, names)
        if inspect.iscoroutine(running):
            await running
        value = names.get("_value")
        if inspect.iscoroutine(value):
            value.close()
            return {
                "error": "the last line is a call that nobody waited for: write await before it"
            }
        json.dumps(value, default=str)
    except BaseException as error:
        return {"error": f"{type(error).__name__}: {error}", "line": line_of(error)}
    return {"value": value}


def line_of(error: BaseException) -> int | None:
    """The line of the program that an exception comes from."""
    found, at = None, error.__traceback__
    while at is not None:
        if at.tb_frame.f_code.co_filename == "<program>":
            found = at.tb_lineno
        at = at.tb_next
    return found


if __name__ == "__main__":
    asyncio.run(main(NAMES.read_text("utf-8"), PROGRAM.read_text("utf-8")))
    sys.stdout.flush()
