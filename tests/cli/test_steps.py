"""What a terminal shows of long work, and how it is stopped."""

import os
import signal

import pytest

from kickwheel.cli.steps import Steps


def test_a_ctrl_c_that_a_library_swallowed_ends_the_work_at_its_next_progress() -> None:
    with Steps() as watch:
        watch.update("tune", 1, 10, "")
        with pytest.raises(KeyboardInterrupt):  # In the place of a library's `except:`.
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            watch.update("tune", 2, 10, "")
        watch.update("tune", 3, 10, "")


def test_what_took_in_signals_before_takes_them_in_afterwards() -> None:
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    with Steps():
        pass
    assert signal.set_wakeup_fd(before) == before
