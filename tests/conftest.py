"""What every test relies on."""

import signal
import sys

import pytest


@pytest.fixture(autouse=True, scope="session")
def control_c():
    """Ctrl-C interrupts, though a shell makes what it runs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def no_figure_is_left():
    """Close the figures that a test has made: the next one counts its own."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
