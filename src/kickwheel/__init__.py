"""The flywheel for AI agents: traffic becomes data, data tunes small specialised models, and the
proven ones go back to work.

Everything public is here, and each name is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kickwheel.agents.ask import Answered
    from kickwheel.app import (
        App,
        answer,
        cancel,
        check_app,
        open_app,
        resume,
        run,
        runs,
        schema,
        show,
    )
    from kickwheel.core.errors import KickwheelError
    from kickwheel.core.plugins import Context, Part
    from kickwheel.flywheel.export import export
    from kickwheel.flywheel.promotion import promote, rollback
    from kickwheel.flywheel.start import import_nat, init
    from kickwheel.flywheel.traffic import feedback, import_
    from kickwheel.flywheel.turn import Turned, curate, evaluate, snapshot, tune, turn
    from kickwheel.flywheel.why import why
    from kickwheel.models.catalog import pull
    from kickwheel.serve.serving import serving

_HOMES = {
    "Answered": "kickwheel.agents.ask",
    "App": "kickwheel.app",
    "Context": "kickwheel.core.plugins",
    "KickwheelError": "kickwheel.core.errors",
    "Part": "kickwheel.core.plugins",
    "Turned": "kickwheel.flywheel.turn",
    "answer": "kickwheel.app",
    "cancel": "kickwheel.app",
    "check_app": "kickwheel.app",
    "curate": "kickwheel.flywheel.turn",
    "evaluate": "kickwheel.flywheel.turn",
    "export": "kickwheel.flywheel.export",
    "feedback": "kickwheel.flywheel.traffic",
    "import_": "kickwheel.flywheel.traffic",
    "import_nat": "kickwheel.flywheel.start",
    "init": "kickwheel.flywheel.start",
    "open_app": "kickwheel.app",
    "promote": "kickwheel.flywheel.promotion",
    "pull": "kickwheel.models.catalog",
    "rollback": "kickwheel.flywheel.promotion",
    "resume": "kickwheel.app",
    "run": "kickwheel.app",
    "runs": "kickwheel.app",
    "schema": "kickwheel.app",
    "serving": "kickwheel.serve.serving",
    "show": "kickwheel.app",
    "snapshot": "kickwheel.flywheel.turn",
    "tune": "kickwheel.flywheel.turn",
    "turn": "kickwheel.flywheel.turn",
    "why": "kickwheel.flywheel.why",
}

__all__ = [
    "Answered",
    "App",
    "Context",
    "KickwheelError",
    "Part",
    "Turned",
    "answer",
    "cancel",
    "check_app",
    "curate",
    "evaluate",
    "export",
    "feedback",
    "import_",
    "import_nat",
    "init",
    "open_app",
    "promote",
    "pull",
    "resume",
    "rollback",
    "run",
    "runs",
    "schema",
    "serving",
    "show",
    "snapshot",
    "tune",
    "turn",
    "why",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kickwheel' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
