"""One YAML file, checked and opened: names become live objects.

check      all mistakes of a file at once
sections   what is wrong beyond the types of its keys
needs      which parts need which
plan       a file that was checked
opening    an app whose parts are alive
once       one question to it
kept       runs of agents that outlive their program
described  the file as JSON Schema

The only place where parts meet.
"""

from kickwheel.app.check import check_app
from kickwheel.app.described import schema
from kickwheel.app.kept import Standing, answer, cancel, resume, resumed, runs, standing
from kickwheel.app.needs import default
from kickwheel.app.once import run, show
from kickwheel.app.opening import App, open_app
from kickwheel.app.plan import Plan, no_app, trained

__all__ = [
    "App",
    "Plan",
    "Standing",
    "answer",
    "cancel",
    "check_app",
    "default",
    "no_app",
    "open_app",
    "resume",
    "resumed",
    "run",
    "runs",
    "schema",
    "show",
    "standing",
    "trained",
]
