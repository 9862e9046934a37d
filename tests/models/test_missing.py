"""What a kind needs and is not installed is told with its remedy."""

import sys
from pathlib import Path

import pytest

from kickwheel.core.errors import MissingExtra

from .opened import opened


@pytest.mark.parametrize(
    ("line", "package", "extra"),
    [
        ("a: {kind: anthropic, model: m}", "anthropic", "anthropic"),
        ("a: {kind: bedrock, model: m, region: eu-central-1}", "boto3", "bedrock"),
    ],
)
async def test_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"models\.a .*kickwheel\[{extra}\]"):
        async with opened(tmp_path, line):
            pass


async def test_a_cache_by_meaning_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kickwheel.models.embedding._model", lambda: None)
    lines = "b: {kind: openai, model: m}\na: {kind: cache, model: b, threshold: 0.9}"
    with pytest.raises(MissingExtra, match=r"kickwheel\[curate\]"):
        async with opened(tmp_path, lines):
            pass
