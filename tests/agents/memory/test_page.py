"""The page about memory: its YAML is a valid app, and its code runs."""

from pathlib import Path

from tests.agents.test_pages import block, run

from kickwheel.app import check_app


def test_the_yaml_on_the_page_is_a_valid_app(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text(block("memory.md", "yaml"), encoding="utf-8")
    plan = check_app(tmp_path)
    assert {name for shelf, name in plan.parts if shelf == "memory"} == {"session", "longterm"}


async def test_the_code_on_the_page_remembers(tmp_path: Path) -> None:
    found = await run("memory.md")["remember"](tmp_path)
    assert found[0] == "I prefer window seats"
