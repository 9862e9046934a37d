"""Fixtures that every room's tests may use."""

import signal

from hypothesis import settings

from tests.postgres import database, postgres, postgres_url

__all__ = ["database", "postgres", "postgres_url"]

# How long an example takes says more of the machine than of the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# Started in the background, as CI may, Python leaves Ctrl-C ignored, and so would its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
