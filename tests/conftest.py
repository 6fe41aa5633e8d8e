"""What every test relies on."""

import signal

import pytest


@pytest.fixture(autouse=True, scope="session")
def control_c():
    """Ctrl-C interrupts, though a shell makes what it runs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
