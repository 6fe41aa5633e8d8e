"""Keeps what goes on around a model's work away from it: settings, threads, forks, signals."""

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
#: Kinds of device whose autocast may be on around a call.
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
    """Compute in the block as the model says, whatever torch is set to around it.

    Autocast is off, the default device is the processor, and `gradients` chooses between gradients
    and inference mode. Afterwards all is as it was. Each thread has its own such settings. All
    threads have one default dtype, so it is left alone, and code that makes a tensor names its
    dtype.
    """
    _limit_threads_after_fork()
    # The outermost block also undoes what Ctrl-C on the way into a `no_grad` leaves behind.
    with torch.inference_mode(not gradients), ExitStack() as stack:
        if torch.empty(0).device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for kind in KINDS:
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def _limit_threads_after_fork() -> None:
    """Give torch one thread in a process that was forked from one in which a model was used.

    A fork does not copy torch's other threads, and the first operation to share its work would wait
    for them for ever. A process keeps its threads if it never uses a model, or was forked before
    one was used.
    """
    global _used_in
    if _used_in != os.getpid():
        if _used_in is not None:
            torch.set_num_threads(1)
        _used_in = os.getpid()


# -- threads ------------------------------------------------------------------------------------


def _renew_turns() -> None:
    """Forget the locks: a process just forked does not have the threads that hold them."""
    global _turns, _making_turn
    _turns, _making_turn = WeakKeyDictionary(), threading.Lock()


_turns: WeakKeyDictionary[Any, Any]
_making_turn: threading.Lock
_renew_turns()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew_turns)


def turn(estimator: Any) -> Any:
    """Return the lock under which an estimator is trained, by one thread at a time.

    It is no attribute of the estimator: copies and pickles would have to leave it out.
    """
    with _making_turn:
        return _turns.setdefault(estimator, threading.RLock())


def undisturbed(method: F) -> F:
    """Let a method that trains an estimator have it to itself, under settings of its own."""

    @wraps(method)
    def train(self: Any, *args: Any, **kwargs: Any) -> Any:
        with turn(self), own_settings(gradients=True):
            return method(self, *args, **kwargs)

    return cast(F, train)


# -- signals ------------------------------------------------------------------------------------


def import_undisturbed(name: str) -> None:
    """Import a module in a thread of its own, which Ctrl-C does not reach.

    Ctrl-C ends the wait for the import, and not the import. One that is cut short leaves modules
    half made, and every later import of them fails.
    """

    def work() -> None:
        with suppress(Exception):  # the code that needs the module will meet the error
            import_module(name)
        _imported.add(name)

    if name not in _imported:
        thread = threading.Thread(target=work, name=f"import {name}")
        thread.start()
        thread.join()


@contextmanager
def raised_by_signals() -> Iterator[list[BaseException]]:
    """Yield a list that gets what handlers of signals raise in the block.

    Python runs them in the main thread, between any two instructions: what they raise looks as if
    the code there had raised it.
    """
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        found = {number: signal.getsignal(number) for number in SIGNALS}
        handlers = {number: handler for number, handler in found.items() if callable(handler)}
    raised: list[BaseException] = []
    late: list[int] = []
    leaving = False

    def handle(number: int, frame: FrameType | None) -> None:
        if leaving:  # what is raised now would leave handlers behind
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
