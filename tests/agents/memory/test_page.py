"""The page about memory: its YAML is a valid app, and its code runs."""

from pathlib import Path

import pytest
from tests.agents.test_pages import block, run

from kickwheel.app import check_app, open_app
from kickwheel.core.errors import ConfigError


def test_the_yaml_on_the_page_is_a_valid_app(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text(block("memory.md", "yaml"), encoding="utf-8")
    plan = check_app(tmp_path)
    assert {name for shelf, name in plan.parts if shelf == "memory"} == {"session", "longterm"}


async def test_a_memorys_model_is_opened_with_it_and_a_mistyped_one_told(tmp_path: Path) -> None:
    text = (
        "models: {general: {kind: openai, model: m}, small: {kind: openai, model: m}}\n"
        "memory: {w: {kind: window, summariser: small}, f: {kind: facts, extractor: small}}\n"
        "agents: {desk: {kind: tool_loop, model: general, memory: [w, f]}}\n"
    )
    (tmp_path / "app.yml").write_text(text, encoding="utf-8")
    async with open_app(tmp_path, only=["desk"]) as opened:
        assert ("models", "small") in opened.live
    (tmp_path / "app.yml").write_text(text.replace(": small}", ": smal}"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r'no model named "smal". Did you mean "small"') as caught:
        check_app(tmp_path)
    assert len(caught.value.mistakes) == 2


async def test_the_code_on_the_page_remembers(tmp_path: Path) -> None:
    found = await run("memory.md")["remember"](tmp_path)
    assert found[0] == "I prefer window seats"
