"""Responses in the store, on SQLite and on Postgres."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kickwheel.core.store import open_store
from kickwheel.models.caller import Caller
from kickwheel.serve.errors import Refused
from kickwheel.serve.responses.kept import KEPT_DAYS, KeptResponses
from tests.serve.conftest import Rooms, running

ANN = Caller(user="ann", tenant="clinic")


def a_response(name: str, previous: str | None = None, **changes: Any) -> dict[str, Any]:
    said = {"type": "message", "role": "assistant", "content": [{"text": f"answer {name}"}]}
    return {
        "id": name,
        "previous_response_id": previous,
        "status": "completed",
        "created_at": int(time.time()),
        "background": True,
        "output": [{**said, "id": f"msg_{name}", "status": "completed"}],
        **changes,
    }


def an_item(text: str) -> dict[str, Any]:
    return {"id": text, "type": "message", "role": "user", "content": [{"text": text}]}


def test_a_conversation_is_all_that_led_to_a_response(tmp_path: Path, database: str | None) -> None:
    with open_store(tmp_path, database) as store:
        kept = KeptResponses(store)
        for number in range(30):
            previous = f"r{number - 1}" if number else None
            kept.add(a_response(f"r{number}", previous), [an_item(f"question {number}")], ANN)
        texts = [item["content"][0]["text"] for item in kept.conversation("r2", ANN)]
        assert texts == [f"{said}{n}" for n in range(3) for said in ("question ", "answer r")]
        assert len(kept.conversation("r29", ANN)) == 60
        for other in (Caller(user="bob", tenant="clinic"), Caller(user="ann", tenant="shop")):
            with pytest.raises(Refused, match="no response r2"):
                kept.conversation("r2", other)
        kept.delete("r1", ANN)
        with pytest.raises(Refused, match="no response r1") as caught:
            kept.conversation("r29", ANN)
        assert caught.value.code == "previous_response_not_found"


def test_the_first_end_is_the_one_that_counts(tmp_path: Path, database: str | None) -> None:
    with open_store(tmp_path, database) as store:
        kept = KeptResponses(store)
        kept.add(a_response("r", status="in_progress"), [], ANN)
        assert [response["id"] for response in kept.open()] == ["r"]
        kept.settle(a_response("r", status="cancelled"))
        kept.settle(a_response("r", status="completed"))
        assert kept.get("r", ANN).response["status"] == "cancelled"
        assert kept.open() == []


def test_what_is_too_old_is_forgotten(tmp_path: Path, database: str | None) -> None:
    with open_store(tmp_path, database) as store:
        kept = KeptResponses(store)
        old = int(time.time()) - KEPT_DAYS * 86_400 - 10
        kept.add(a_response("old", created_at=old), [], ANN)
        kept.add(a_response("new"), [], ANN)
        with pytest.raises(Refused, match="too old"):
            kept.get("old", ANN)
        assert kept.get("new", ANN).response["id"] == "new"


def test_what_nobody_works_on_any_more_is_noticed_unasked(tmp_path: Path, rooms: Rooms) -> None:
    long_ago = int(time.time()) - 3600
    with open_store(tmp_path / "store") as store:
        lost = a_response("resp_1", status="in_progress", created_at=long_ago, output=[])
        KeptResponses(store).add(lost, [], ANN)
    with running(tmp_path / "store", rooms) as served:
        kept = KeptResponses(served.store)
        soon(lambda: kept.get("resp_1", ANN).response["status"] == "failed")


def soon(true: Callable[[], bool], within_s: float = 10) -> None:
    ends = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)
