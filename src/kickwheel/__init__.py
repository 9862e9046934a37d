"""The flywheel for AI agents: traffic becomes data, data tunes small specialised models, and the
proven ones go back to work.

Everything public is here, and each name is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kickwheel.app import App, check_app, open_app, schema
    from kickwheel.core.errors import KickwheelError
    from kickwheel.core.plugins import Context, Part

_HOMES = {
    "App": "kickwheel.app",
    "Context": "kickwheel.core.plugins",
    "KickwheelError": "kickwheel.core.errors",
    "Part": "kickwheel.core.plugins",
    "check_app": "kickwheel.app",
    "open_app": "kickwheel.app",
    "schema": "kickwheel.app",
}

__all__ = ["App", "Context", "KickwheelError", "Part", "check_app", "open_app", "schema"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kickwheel' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
