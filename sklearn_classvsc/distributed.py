"""Data-parallel training: several processes, on one machine or many, fit one estimator.

``torchrun`` starts the processes, and Hugging Face Accelerate connects them. Every process has all
the data and the same model, and takes its part of each batch. The terms of the loss, and then the
gradients, are summed over the processes, so that N processes optimise the same loss as one.
"""

from __future__ import annotations

import atexit
import importlib
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["ProcessLostError", "data_parallel"]

T = TypeVar("T")
LOST = "The processes are no longer connected, since one failed or was lost: restart all of them."


class ProcessLostError(RuntimeError):
    """Another process has failed or cannot be reached; the message says what to do."""


@contextmanager
def data_parallel(timeout: float = 50.0) -> Iterator[Accelerator]:
    """Let the processes that ``torchrun`` has started fit each estimator together.

    Within the context, `fit` and `partial_fit` train one model in all processes. Each process must
    call them with the same data and parameters. The result is that of one process, except for the
    noise that each draws; `batch_size` is the size of a batch over all processes. Afterwards, every
    process has the same fitted estimator. Other methods and other threads are not affected.

    Without ``torchrun`` there is one process, and `fit` trains as usual. The processes stay
    connected after the context, for the next one.

    Parameters
    ----------
    timeout : float, default=50.0
        Seconds that a process waits for the others before it counts one of them as lost. The value
        of the first context applies to all contexts.

    Yields
    ------
    accelerator : accelerate.Accelerator
        Says which process this is (`is_main_process`), and prints only in the first (`print`),
        also after the context.

    Raises
    ------
    ImportError
        If Accelerate is not installed.
    RuntimeError
        If fewer processes are connected than ``torchrun`` was asked for.
    ProcessLostError
        If another process fails in training or is killed.
    Exception
        Any exception that another process raises between two trainings.

    See Also
    --------
    sklearn_classvsc.ClassVSCTransformer : An estimator that processes can fit together.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_classvsc import VSCTransformer
    >>> from sklearn_classvsc.distributed import data_parallel
    >>> X, y = load_iris(return_X_y=True)
    >>> with data_parallel() as accelerator:
    ...     est = VSCTransformer(n_components=4, max_epochs=2, random_state=0).fit(X)
    >>> accelerator.num_processes
    1
    """
    threads = torch.get_num_threads()
    accelerator = _connect(timeout)
    rank, size = accelerator.process_index, accelerator.num_processes
    processes = Processes(rank, size) if size > 1 else ALONE
    token = _CURRENT.set(processes)
    try:
        with processes.raise_in_all():
            yield accelerator
    finally:
        _CURRENT.reset(token)
        torch.set_num_threads(threads)  # Accelerate may have lowered it


def _connect(timeout: float) -> Accelerator:
    """Connect the processes, and return the accelerator."""
    try:
        from accelerate import Accelerator
        from accelerate.state import is_initialized
        from accelerate.utils import InitProcessGroupKwargs
    except ImportError as error:
        raise ImportError(
            'data_parallel needs Accelerate: pip install "sklearn-classvsc[distributed]".'
        ) from error
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    launch = "torchrun --nproc_per_node N (python -m torch.distributed.run) starts N."
    if "WORLD_SIZE" not in os.environ and "MASTER_ADDR" in os.environ:
        raise RuntimeError(
            "MASTER_ADDR is set, which asks for several processes, but WORLD_SIZE is missing and "
            f"there is one process (`accelerate launch --cpu` does that): {launch}"
        )
    # Imported after the group exists, this module would hold it forever in default arguments.
    importlib.import_module("torch.distributed.nn")
    connected = dist.is_initialized()
    if asked > 1 and is_initialized() and not connected:
        raise ProcessLostError(LOST)
    # If not every process has its own GPU, all compute on the CPU.
    cpu = torch.cuda.device_count() < int(os.environ.get("LOCAL_WORLD_SIZE", asked))
    options: dict[str, Any] = {"timeout": timedelta(seconds=timeout)}
    if not cpu:
        options["backend"] = "cpu:gloo,cuda:nccl"  # an estimator may still have device="cpu"
    accelerator = Accelerator(
        cpu=cpu and not is_initialized(), kwargs_handlers=[InitProcessGroupKwargs(**options)]
    )
    if accelerator.num_processes != asked:
        raise RuntimeError(
            f"WORLD_SIZE={asked} processes were asked for, but Accelerate has connected "
            f"{accelerator.num_processes}: {launch}"
        )
    if dist.is_initialized() and not connected:
        atexit.register(_disconnect)
    return accelerator


def _disconnect() -> None:
    # Threads of the group end with its last reference. If Python ended first, they would abort the
    # process (pytorch/pytorch#179291).
    if dist.is_initialized():
        dist.destroy_process_group()


# `Alone` stands for one process, and `Processes` for several. The net calls what `current` returns.
class Alone:
    """One process, in which sums over processes need no work."""

    rank, size = 0, 1

    def total(self, part: Tensor) -> Tensor:
        """Return the sum over processes of tensors of one shape."""
        return part

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows of all processes, stacked; differentiable by the rows of this process.

        The loss is the same function of the same rows in every process. Each process therefore
        knows the derivative by its own rows, and the gradient is the sum over the processes.
        """
        return rows

    def alike(self, tensor: Tensor) -> Tensor:
        """Return a tensor that all processes have; its gradient is divided by their number."""
        return tensor

    def add_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace gradients by their sums over the processes."""

    def generator(self, shared: torch.Generator, own: torch.Generator) -> torch.Generator:
        """Return the noise generator of this process, seeded by `shared`, on the device of `own`.

        The state of `shared` is the same in all processes, and enough to draw the noise again.
        """
        return own

    @contextmanager
    def raise_in_all(self) -> Iterator[None]:
        """Raise an error of the block in all processes, once all have left the block."""
        yield

    def from_rank_0(self, make: Callable[[], T]) -> T:
        """Call `make` in the first process only, and return its result in all."""
        return make()

    def differing(self, said: dict[str, Any]) -> dict[str, int]:
        """Return the names of values that differ from the first process, and a process where."""
        return {}

    def leave(self, error: BaseException) -> None:
        """Disconnect, unless all raise this error, so that the others do not wait in vain."""


ALONE = Alone()


class Processes(Alone):
    """Several processes that take the same steps in the same order.

    Parameters
    ----------
    rank : int
        Index of this process.
    size : int
        Number of processes.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self._shared: BaseException | None = None  # the last error that all processes have raised

    def total(self, part: Tensor) -> Tensor:
        total = part.detach().clone(memory_format=torch.contiguous_format)
        self.add_up(total)
        return total

    def gather(self, rows: Tensor) -> Tensor:
        gathered: Tensor = _Gather.apply(rows, self)
        return gathered

    def alike(self, tensor: Tensor) -> Tensor:
        same: Tensor = _Alike.apply(tensor, self.size)
        return same

    def add_gradients(self, parameters: Iterable[Tensor]) -> None:
        # One sum of all gradients, since the latency of each sum dominates. A wrapper that overlaps
        # sums with the backward pass is not faster at these sizes, and leaves hooks on the
        # parameters if a process is lost.
        gradients = [x.grad for x in parameters if x.grad is not None]
        flat = torch.cat([x.flatten() for x in gradients])
        self.add_up(flat)
        parts = flat.split([x.numel() for x in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def generator(self, shared: torch.Generator, own: torch.Generator) -> torch.Generator:
        twin = torch.Generator().set_state(shared.get_state())  # does not advance the shuffle
        seeds = torch.randint(2**62, (self.size,), generator=twin)
        return torch.Generator(own.device).manual_seed(int(seeds[self.rank]))

    @contextmanager
    def raise_in_all(self) -> Iterator[None]:
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:  # Ctrl-C too: no process should wait for this one
            if not self.size or raised is self._shared or isinstance(raised, ProcessLostError):
                raise
            error = raised
        self._ask(None, error)

    def from_rank_0(self, make: Callable[[], T]) -> T:
        box: list[Any] = [None]
        with self.raise_in_all():
            if self.rank == 0:
                box[0] = make()
        with self._talking():
            dist.broadcast_object_list(box, src=0)
        made: T = box[0]
        return made

    def differing(self, said: dict[str, Any]) -> dict[str, int]:
        answers = self._ask(said)
        return {
            name: rank
            for rank in reversed(range(self.size))
            for name, value in answers[0].items()
            if answers[rank].get(name) != value
        }

    def leave(self, error: BaseException) -> None:
        # All processes raise the FloatingPointError of a loss, which is the same in all.
        if error is not self._shared and not isinstance(error, FloatingPointError):
            self.size = 0
            _disconnect()

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over the processes, with the same bits in all."""
        with self._talking():
            dist.all_reduce(tensor)

    def collect(self, rows: Tensor) -> list[Tensor]:
        """Return the rows of each process."""
        with self._talking():
            sizes: list[Any] = [None] * self.size
            dist.all_gather_object(sizes, len(rows))
            padded = rows.new_zeros(max(sizes), *rows.shape[1:])
            padded[: len(rows)] = rows
            found = [torch.empty_like(padded) for _ in sizes]
            dist.all_gather(found, padded)
        return [part[:n] for part, n in zip(found, sizes, strict=True)]

    def _ask(self, answer: Any, error: BaseException | None = None) -> list[Any]:
        """Return the answers of all processes; if one has an error instead, raise it in all."""
        said: list[Any] = [None] * self.size
        with self._talking():
            dist.all_gather_object(said, (answer, error and _portable(error)))
        for rank, (_, failure) in enumerate(said):
            if failure is None:
                continue
            if error is not None and repr(error) == repr(failure):  # with a traceback
                self._shared = error
                raise error
            self._shared = failure
            place = RuntimeError(f"Process {rank} raised the error; this is process {self.rank}.")
            raise failure from (error or place)
        return [answer for answer, _ in said]

    @contextmanager
    def _talking(self) -> Iterator[None]:
        if not self.size:
            raise ProcessLostError(LOST)
        try:
            yield
        except RuntimeError as error:
            raise ProcessLostError(
                f"Process {self.rank} of {self.size} has lost another process, or has waited for "
                f"it too long ({str(error).splitlines()[0]}). Look for the message of that "
                "process, and restart all of them. With checkpoint=..., fit(..., resume=True) "
                "continues."
            ) from error


_CURRENT: ContextVar[Alone] = ContextVar("processes", default=ALONE)


def current() -> Alone:
    """Return the processes of the present context."""
    return _CURRENT.get()


class _Alike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, size: int) -> Tensor:
        ctx.size = size
        return tensor.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad / ctx.size, None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, processes: Processes) -> Tensor:
        parts = processes.collect(rows.detach())
        ctx.sizes, ctx.rank = [len(part) for part in parts], processes.rank
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.split(ctx.sizes)[ctx.rank], None


def _portable(error: BaseException) -> BaseException:
    """Return the error, or a RuntimeError with its repr if it cannot be sent."""
    if isinstance(error, Exception | KeyboardInterrupt):  # SystemExit ends only this process
        try:
            pickle.loads(pickle.dumps(error))
            return error
        except Exception:  # a user's class may raise anything
            pass
    return RuntimeError(repr(error))
