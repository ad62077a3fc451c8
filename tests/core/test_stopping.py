"""A job that is asked to end leaves at once, whatever it is in the middle of."""

from __future__ import annotations

import os
import signal
import time

import pytest

from pipeline_lib.core import stopping


@pytest.fixture
def listening():
    before = signal.getsignal(signal.SIGTERM)
    stopping.listen()
    yield
    signal.signal(signal.SIGTERM, before)
    stopping._signals.clear()


def test_no_handler_of_other_errors_takes_it_for_one(listening):
    """Such as that of a model's config.json, whose reader raises errors of many kinds."""
    with pytest.raises(stopping.Stopped, match="what is finished is kept"):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except Exception as error:
            raise AssertionError("taken for a broken file") from error
    assert stopping.asked()


def test_a_signal_that_comes_again_at_once_interrupts_nothing(listening):
    """A scheduler sends it to each process of a job, and some of these pass it on."""
    with pytest.raises(stopping.Stopped):
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)  # while the first one is cleaned up after
    stopping._signals[-1] -= stopping.SAME
    with pytest.raises(stopping.Stopped):
        os.kill(os.getpid(), signal.SIGTERM)
