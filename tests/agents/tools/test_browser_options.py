from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kickwheel.agents.tools.browser import Browser
from kickwheel.agents.tools.proxy import Places
from kickwheel.core.plugins import load


@pytest.mark.parametrize(
    ("hosts", "private", "host", "port", "allowed"),
    [
        (["example.com"], False, "example.com", 443, True),
        (["example.com"], False, "EXAMPLE.com.", 443, True),
        (["example.com"], False, "www.example.com", 443, False),
        (["example.com"], False, "example.com.evil.org", 443, False),
        (["*.example.com"], False, "www.example.com", 443, True),
        (["*.example.com"], False, "badexample.com", 443, False),
        (["*.example.com"], False, "example.com", 443, False),
        (["*"], False, "anything.org", 80, True),
        (["example.com:8080"], False, "example.com", 8080, True),
        (["example.com:8080"], False, "example.com", 80, False),
        (["[::1]:80"], True, "::1", 80, True),
        (["[::1]:80"], True, "::1", 81, False),
    ],
)
def test_hosts_are_matched_whole(
    hosts: list[str], private: bool, host: str, port: int, allowed: bool
) -> None:
    assert (Places(hosts, private).why_not(host, port) == "") == allowed


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hosts": []},
        {"hosts": ["http://example.com"]},
        {"hosts": ["a b"]},
        {"hosts": ["example.com/x"]},
        {"hosts": ["*"], "depth": 0},
        {"hosts": ["*"], "cookies": "shared"},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Browser(**options)


def test_the_kind_is_on_the_shelf() -> None:
    assert load("tools", "browser", Path()) is Browser
