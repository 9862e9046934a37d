"""`kickwheel memory`, as people call it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kickwheel.agents.memory import Ledger
from kickwheel.agents.memory.fact import Candidate, Scope, Turn
from kickwheel.core.store import open_store


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.yml").write_text("memory: {longterm: facts}\n")
    turn = Turn(role="user", text="Hi! My name is Ann, call me Annie.")
    with open_store(tmp_path / ".kickwheel") as store:
        for text in ("My name is Anne", "My name is Ann"):
            Ledger(store.database).note(
                [Candidate(text=text, kind="name", slot="name")],
                [turn],
                Scope(user="ann"),
                trace="a" * 32,
            )
    return tmp_path


def memory(app: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kickwheel.cli", "memory", str(app), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_person_is_listed_explained_exported_and_forgotten(app: Path) -> None:
    listed = memory(app, "list", "--user", "ann")
    assert "My name is Ann\n" in listed.stdout, listed.stderr
    assert "Anne" not in listed.stdout
    facts = json.loads(memory(app, "list", "--user", "ann", "--past", "--json").stdout)
    assert [fact["text"] for fact in facts] == ["My name is Anne", "My name is Ann"]
    why = memory(app, "why", "--fact", facts[1]["id"]).stdout
    assert "said   by the user: Hi! My name is Ann, call me Annie." in why
    assert "trace  " + "a" * 32 in why
    exported = json.loads(memory(app, "export", "--user", "ann").stdout)
    assert len(exported["facts"]) == 2
    gone = memory(app, "forget", "--user", "ann", "--yes")
    assert gone.stdout.startswith("2 facts and 0 kept turns are deleted.")
    assert "a" * 32 in gone.stdout
    assert json.loads(memory(app, "list", "--user", "ann", "--json").stdout) == []


def test_what_is_missing_or_unknown_is_told(app: Path) -> None:
    assert "list needs --user" in memory(app, "list").stderr
    assert "why needs --fact" in memory(app, "why").stderr
    assert 'no fact "zz" in this store' in memory(app, "why", "--fact", "zz").stderr
    assert memory(app, "list", "--user", "bob").stdout == (
        'nothing is known of "bob" without a tenant: --tenant names theirs\n'
    )
    unsure = memory(app, "forget", "--user", "ann")
    assert unsure.returncode != 0
    assert len(json.loads(memory(app, "list", "--user", "ann", "--json").stdout)) == 1
