"""Specification of the decoder's output in blocks: exactly that of the whole, in less memory."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from sklearn_classvsc import _blocks
from sklearn_classvsc._blocks import Blocks, row_sums

N, P, H = 5, 23, 4


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Blocks of three columns, so that the last is narrower."""
    monkeypatch.setattr(_blocks, "ELEMENTS", 3 * N)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def head(dtype=torch.float64):
    parts = normal(N, H), normal(P, H, seed=1), normal(P, seed=2)
    return [part.to(dtype).requires_grad_() for part in parts]


def sparse_samples():
    x = normal(N, P, seed=3)
    x[x < 0.8] = 0
    x[2] = 0  # a sample of nothing
    x[:, 4] = 0  # and a feature that none has
    return x.to_sparse()


def curve(theta, x, row, column):
    return (torch.sin(theta * column) * row).sum(1)


ROW, COLUMN = normal(N, seed=4), normal(P, seed=5)
SUMS = {
    "logsumexp": (lambda t, x: t.logsumexp(x), lambda t: t.logsumexp(1)),
    "sum": (
        lambda t, x: t.sum(curve, x, ROW, COLUMN),
        lambda t: curve(t, None, ROW[:, None], COLUMN),
    ),
}
each = pytest.mark.parametrize("name", SUMS)


@each
def test_sums_and_values_are_those_of_the_whole(name):
    hidden, weight, bias = head()
    x, (in_blocks, whole) = sparse_samples(), SUMS[name]
    total, at_values = in_blocks(Blocks(hidden, weight, bias, torch.float64), x)
    theta = hidden @ weight.T + bias
    torch.testing.assert_close(total, whole(theta))
    torch.testing.assert_close(at_values, theta[tuple(x.indices())])


@each
def test_gradients_equal_finite_differences(name):
    x = sparse_samples()

    def outputs(hidden, weight, bias):
        return SUMS[name][0](Blocks(hidden, weight, bias, torch.float64), x)

    assert gradcheck(outputs, head())


def test_rows_and_columns_get_gradients_too():
    parts, x = [part.detach() for part in head()], sparse_samples()
    row, column = ROW.clone().requires_grad_(), COLUMN.clone().requires_grad_()
    blocks = Blocks(*parts, torch.float64)
    assert gradcheck(lambda row, column: blocks.sum(curve, x, row, column)[0], (row, column))


@each
@pytest.mark.parametrize("x", [torch.zeros(N, P), torch.ones(N, P)], ids=["nothing", "everything"])
def test_any_number_of_values_will_do(name, x):
    hidden, weight, bias = head()
    total, at_values = SUMS[name][0](Blocks(hidden, weight, bias, torch.float64), x.to_sparse())
    assert total.shape == (N,)
    assert len(at_values) == x.sum()
    (total.sum() + at_values.sum()).backward()
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize("elements", [1, 2 * N, 7 * N, 1000 * N])
def test_the_size_of_a_block_means_nothing(elements, monkeypatch):
    monkeypatch.setattr(_blocks, "ELEMENTS", elements)
    hidden, weight, bias = head()
    total, _ = Blocks(hidden, weight, bias, torch.float64).logsumexp(sparse_samples())
    torch.testing.assert_close(total, (hidden @ weight.T + bias).logsumexp(1))


def test_huge_values_stay_finite():
    hidden, weight, bias = head(torch.float32)
    hidden = hidden.detach() * 1e4
    total, _ = Blocks(hidden, weight, bias, torch.float32).logsumexp(sparse_samples().float())
    total.sum().backward()
    assert total.isfinite().all()
    torch.testing.assert_close(bias.grad.sum(), torch.tensor(float(N)))


class LargestTensor(TorchDispatchMode):
    """Keeps the size of the largest tensor that is made."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, torch.Tensor):
                self.size = max(self.size, x._nnz() if x.is_sparse else x.numel())
        return out


@each
def test_nothing_of_the_size_of_theta_is_ever_made(name):
    n = 50
    hidden, weight, bias = normal(n, H).requires_grad_(), *head()[1:]
    x = torch.zeros(n, P, dtype=torch.float64)
    x[::7, ::5] = 1
    x, row = x.to_sparse(), torch.ones(n, dtype=torch.float64)
    blocks = Blocks(hidden, weight, bias, torch.float64)
    with LargestTensor() as seen:
        total, at_values = (
            blocks.logsumexp(x) if name == "logsumexp" else blocks.sum(curve, x, row, COLUMN)
        )
        (total.sum() + at_values.sum()).backward()
    assert seen.size == max(hidden.numel(), weight.numel())  # of their gradients
    assert seen.size < n * P / 4


def gap(theta, x, row, column):
    return ((theta * column - x) ** 2 * row).sum(1)


def test_of_dense_samples_sums_and_gradients_are_those_of_the_whole():
    x, parts = normal(N, P, seed=3), head()
    total, at_values = Blocks(*parts, torch.float64).sum(gap, x, ROW, COLUMN)
    theta = parts[0] @ parts[1].T + parts[2]
    torch.testing.assert_close(total, gap(theta, x, ROW[:, None], COLUMN))
    assert at_values.shape == (0,)

    def sums(*parts):
        return Blocks(*parts, torch.float64).sum(gap, x, ROW, COLUMN)[0]

    assert gradcheck(sums, parts)


def test_nothing_of_their_size_is_made_beside_them():
    n = 50
    parts, x = [normal(n, H).requires_grad_(), *head()[1:]], normal(n, P, seed=3)
    with LargestTensor() as seen:
        Blocks(*parts, torch.float64).sum(gap, x)[0].sum().backward()
    assert seen.size < n * P / 4


def test_products_in_lower_precision_are_close():
    hidden, weight, bias = head(torch.float32)
    x = sparse_samples().float()
    total, _ = Blocks(hidden, weight, bias, torch.bfloat16).logsumexp(x)
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, (hidden @ weight.T + bias).logsumexp(1), rtol=0.02, atol=0.02)
    total.sum().backward()
    assert weight.grad.dtype == torch.float32


def test_row_sums_add_up_the_values_of_each_row():
    x = sparse_samples()
    sums = row_sums(N, x.indices()[0], x.values())
    torch.testing.assert_close(sums, x.to_dense().sum(1))
