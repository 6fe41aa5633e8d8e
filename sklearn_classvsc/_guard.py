"""Protection of a model's work from what happens around it: settings, threads, forks, signals."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import wraps
from importlib import import_module
from types import FrameType
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import torch

F = TypeVar("F", bound=Callable[..., Any])
#: Kinds of device whose autocast a caller may have switched on.
KINDS = ("cpu", "cuda", "xpu", "mps")
#: Signals whose handlers may raise KeyboardInterrupt, where the system has them.
SIGNALS = [
    getattr(signal, f"SIG{name}")
    for name in ("INT", "TERM", "HUP", "QUIT", "BREAK", "ALRM", "USR1", "USR2")
    if hasattr(signal, f"SIG{name}")
]

_used_in: int | None = None  # the process in which a model was last used
_imported: set[str] = set()


@contextmanager
def own_settings(gradients: bool = False) -> Iterator[None]:
    """Run the block with the model's settings, whatever settings torch has outside.

    In the block, autocast is off, the default device is the processor, and `gradients` chooses
    between gradients and inference mode. Afterwards the settings are as before. Each thread has its
    own settings of these kinds. The default dtype is shared by all threads, so the block does not
    change it, and code that makes a tensor names its dtype.
    """
    _limit_threads_after_fork()
    # The outermost block also restores the mode after a Ctrl-C on the way into a `no_grad`.
    with torch.inference_mode(not gradients), ExitStack() as stack:
        if torch.empty(0).device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for kind in KINDS:
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def _limit_threads_after_fork() -> None:
    """Limit torch to one thread in a process forked from a process that has used a model.

    A fork does not copy torch's other threads, and the first operation that shares its work would
    wait for them forever. A process keeps its threads if it never uses a model, or if it was forked
    before its parent used one.
    """
    global _used_in
    if _used_in != os.getpid():
        if _used_in is not None:
            torch.set_num_threads(1)
        _used_in = os.getpid()


# -- threads ------------------------------------------------------------------------------------


def _renew_turns() -> None:
    """Forget the locks, because a forked process does not have the threads that hold them."""
    global _turns, _making_turn
    _turns, _making_turn = WeakKeyDictionary(), threading.Lock()


_turns: WeakKeyDictionary[Any, Any]
_making_turn: threading.Lock
_renew_turns()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew_turns)


def turn(estimator: Any) -> Any:
    """Return the lock that lets only one thread at a time train an estimator.

    The lock is not an attribute of the estimator, because copies and pickles cannot hold it.
    """
    with _making_turn:
        return _turns.setdefault(estimator, threading.RLock())


def undisturbed(method: F) -> F:
    """Decorate a method that trains an estimator: one thread at a time, with `own_settings`."""

    @wraps(method)
    def train(self: Any, *args: Any, **kwargs: Any) -> Any:
        with turn(self), own_settings(gradients=True):
            return method(self, *args, **kwargs)

    return cast(F, train)


# -- signals ------------------------------------------------------------------------------------


def import_undisturbed(name: str) -> None:
    """Import a module in a separate thread, which Ctrl-C does not reach.

    Ctrl-C then ends the wait for the import, but not the import. An interrupted import leaves
    modules half made, and every later import of them fails.
    """

    def work() -> None:
        with suppress(Exception):  # the code that needs the module will raise it again
            import_module(name)
        _imported.add(name)

    if name not in _imported:
        thread = threading.Thread(target=work, name=f"import {name}")
        thread.start()
        thread.join()


@contextmanager
def raised_by_signals() -> Iterator[list[BaseException]]:
    """Yield a list that collects the exceptions of signal handlers in the block.

    Python runs the handlers in the main thread, between any two instructions. An exception of a
    handler therefore looks like an exception of the code that it interrupts.
    """
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        found = {number: signal.getsignal(number) for number in SIGNALS}
        handlers = {number: handler for number, handler in found.items() if callable(handler)}
    raised: list[BaseException] = []
    late: list[int] = []
    leaving = False

    def handle(number: int, frame: FrameType | None) -> None:
        if leaving:  # an exception now would keep handlers from being restored
            late.append(number)
            return
        try:
            handlers[number](number, frame)
        except BaseException as error:
            raised.append(error)
            raise

    try:
        for number in handlers:
            signal.signal(number, handle)
        yield raised
    finally:
        leaving = True
        for number, handler in handlers.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)
        for number in late:
            signal.raise_signal(number)
