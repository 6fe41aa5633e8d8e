"""The decoder's output theta for sparse samples or many features, one block of columns at a time.

theta = hidden @ weight.T + bias has n x p values. A loss needs only sums over its rows and, for
sparse x, its values where x is not zero. These numbers and their gradients are exact. The backward
pass computes each block again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Values of theta in a block, 4 MB in float32.
ELEMENTS = 2**20

#: (theta, x, row, column) -> (n,): a sum over the columns of a block of theta, (n, b). x is the
#: block of the samples, (n, b), or None if they are sparse. row, (n, 1), and column, (b,), hold a
#: value for each row and each column.
Reduction = Callable[[Tensor, Any, Tensor, Tensor], Tensor]


class Blocks(NamedTuple):
    """theta, of shape (n, p), which is never in memory as a whole."""

    hidden: Tensor  # (n, h)
    weight: Tensor  # (p, h)
    bias: Tensor  # (p,)
    dtype: torch.dtype  # of the matrix products

    def logsumexp(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log sum_j exp theta_j, (n,), and theta at the values of x.

        Parameters
        ----------
        x : sparse Tensor of shape (n, p)
            Samples, a coalesced COO tensor of m values.

        Returns
        -------
        total : Tensor of shape (n,)
        at_values : Tensor of shape (m,)
        """
        return self._reduce(None, x, self.bias.new_empty(0), self.bias.new_empty(0))

    def sum(
        self,
        reduction: Reduction,
        x: Tensor,
        row: Tensor | None = None,
        column: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return sum_j f(theta_j, x_j, row, column_j), (n,), and theta at the values of sparse x.

        Parameters
        ----------
        reduction : callable
            (theta, x, row, column) -> (n,), the sum over a block of columns.
        x : Tensor of shape (n, p)
            Samples, dense or a coalesced COO tensor of m values, for which `reduction` gets None.
        row : Tensor of shape (n,) or None
            A value for each sample, which `reduction` gets as (n, 1). None: zeros.
        column : Tensor of shape (p,) or None
            A value for each feature. None: zeros.

        Returns
        -------
        total : Tensor of shape (n,)
        at_values : Tensor of shape (m,)
        """
        row = self.bias.new_zeros(len(self.hidden)) if row is None else row
        column = torch.zeros_like(self.bias) if column is None else column
        return self._reduce(reduction, x, row, column)

    def _reduce(
        self, reduction: Reduction | None, x: Tensor, row: Tensor, column: Tensor
    ) -> tuple[Tensor, Tensor]:
        cells = x.indices() if x.is_sparse else torch.empty(2, 0, dtype=torch.long).to(x.device)
        dense = None if x.is_sparse else x
        total, at_values = _Reduce.apply(
            reduction, self.dtype, cells, dense, *self[:3], row, column
        )
        return total, at_values


class _Reduce(torch.autograd.Function):
    """Sums over the rows of theta, and its values at given cells."""

    @staticmethod
    def forward(
        ctx: Any,
        reduction: Reduction | None,
        dtype: torch.dtype,
        cells: Tensor,
        x: Tensor | None,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        row: Tensor,
        column: Tensor,
    ) -> tuple[Tensor, Tensor]:
        columns, order = cells[1].sort()
        rows, n = cells[0][order], len(hidden)
        total = hidden.new_full((n,), 0 if reduction else -torch.inf)
        picked = hidden.new_empty(len(columns))
        low = hidden.to(dtype)
        for block, some in _blocks(n, columns, len(bias)):
            theta = _theta(low, weight[block], bias[block], hidden.dtype)
            picked[some] = theta[rows[some], columns[some] - block.start]
            if reduction:
                total += reduction(theta, _part(x, block), row[:, None], column[block])
            else:
                total = torch.logaddexp(total, theta.logsumexp(1))
        if reduction is None:  # logsumexp has the derivative of the sum of exp(theta - total)
            reduction, row, column = _mass, total, torch.zeros_like(bias)
        ctx.reduction, ctx.dtype = reduction, dtype
        ctx.save_for_backward(rows, columns, order, x, hidden, weight, bias, row, column)
        return total, torch.empty_like(picked).index_copy_(0, order, picked)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor, grad_picked: Tensor) -> tuple[Tensor | None, ...]:
        rows, columns, order, x, hidden, weight, bias, row, column = ctx.saved_tensors
        low, grad_picked = hidden.to(ctx.dtype), grad_picked[order]
        grad_hidden, grad_row = torch.zeros_like(hidden), torch.zeros_like(row)
        grad_weight, grad_bias = torch.empty_like(weight), torch.empty_like(bias)
        grad_column = torch.empty_like(column)
        for block, some in _blocks(len(hidden), columns, len(bias)):
            theta = _theta(low, weight[block], bias[block], hidden.dtype)
            with torch.enable_grad():
                inputs = [theta, row.detach()[:, None], column[block].detach()]
                inputs = [tensor.requires_grad_() for tensor in inputs]
                total = ctx.reduction(theta, _part(x, block), *inputs[1:])
            grad, along_row, grad_column[block] = torch.autograd.grad(
                total, inputs, grad_total, materialize_grads=True
            )
            grad_row += along_row[:, 0]
            if some.start < some.stop:  # spares a copy
                at = rows[some], columns[some] - block.start
                grad = grad.index_put(at, grad_picked[some], accumulate=True)
            grad_bias[block] = grad.sum(0)
            grad = grad.to(ctx.dtype)
            grad_hidden += grad @ weight[block].to(ctx.dtype)
            grad_weight[block] = grad.T @ low
        needed = ctx.needs_input_grad[7:]
        grads = [
            grad if need else None
            for grad, need in zip((grad_row, grad_column), needed, strict=True)
        ]
        return None, None, None, None, grad_hidden, grad_weight, grad_bias, *grads


def coo(cells: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a sparse tensor of values at cells, (2, m), which must be sorted and distinct."""
    return torch.sparse_coo_tensor(cells, values, shape, is_coalesced=True, check_invariants=False)


def row_sums(n: int, rows: Tensor, values: Tensor) -> Tensor:
    """Return the sums, (n,), of the values, (m,), in each row."""
    return values.new_zeros(n).index_add(0, rows, values)


def _blocks(n: int, columns: Tensor, p: int) -> Iterator[tuple[slice, slice]]:
    """Yield blocks of the p columns, and the slice of the sorted `columns` in each block."""
    width = max(1, ELEMENTS // max(n, 1))
    starts = torch.arange(0, p, width, device=columns.device)
    ends = torch.searchsorted(columns, starts + width).tolist()
    for i, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
        yield slice(i * width, min((i + 1) * width, p)), slice(begin, end)


def _part(x: Tensor | None, block: slice) -> Tensor | None:
    return None if x is None else x[:, block]


def _theta(hidden: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.addmm(bias.to(hidden.dtype), hidden, weight.to(hidden.dtype).T).to(dtype)


def _mass(theta: Tensor, x: Tensor | None, row: Tensor, column: Tensor) -> Tensor:
    return (theta - row).exp().sum(1)
