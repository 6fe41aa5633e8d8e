"""The displays: scikit-learn's convention, the data they show, and labels that can be read."""

import io
import itertools
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from helpers import small
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import NMF, PCA
from sklearn.metrics import explained_variance_score

from sklearn_classvsc import ClassVSCTransformer, VSCTransformer
from sklearn_classvsc.displays import (
    ActivationDisplay,
    FactorDisplay,
    HistoryDisplay,
    ReconstructionDisplay,
    SharingDisplay,
    TraversalDisplay,
)
from sklearn_classvsc.displays._numbers import number
from sklearn_classvsc.inspection import feature_effects, top_features, top_samples, traverse
from sklearn_classvsc.metrics import class_sharing_matrix, dimension_roles, fidelity_scorer

matplotlib = pytest.importorskip("matplotlib")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

#: Small estimators, soon trained, may leave dimensions without use.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn_classvsc.CollapseWarning"),
    pytest.mark.filterwarnings("error::DeprecationWarning:matplotlib"),
]
LONG = r"{} $\frac{{$ <&> and a name that goes on and on"
IMAGE = (8, 8)

#: Each display of fitted digits, plotted on `ax`.
PLOTS = {
    "activation": lambda est, X, y, **kw: ActivationDisplay.from_estimator(est, X, y, **kw),
    "factor-images": lambda est, X, y, **kw: FactorDisplay.from_estimator(
        est, X, y, 0, image_shape=IMAGE, **kw
    ),
    "factor-table": lambda est, X, y, **kw: FactorDisplay.from_estimator(est, X, y, 0, **kw),
    "history": lambda est, X, y, **kw: HistoryDisplay.from_estimator(est, X, y, **kw),
    "reconstruction-images": lambda est, X, y, **kw: ReconstructionDisplay.from_estimator(
        est, X, y, image_shape=IMAGE, **kw
    ),
    "reconstruction-table": lambda est, X, y, **kw: ReconstructionDisplay.from_estimator(
        est, X, y, **kw
    ),
    "sharing": lambda est, X, y, **kw: SharingDisplay.from_estimator(est, X, y, **kw),
    "traversal-images": lambda est, X, y, **kw: TraversalDisplay.from_estimator(
        est, X, y, dimension=0, label=y[0], image_shape=IMAGE, **kw
    ),
    "traversal-table": lambda est, X, y, **kw: TraversalDisplay.from_estimator(
        est, X, y, dimension=0, label=y[0], **kw
    ),
    "classes-images": lambda est, X, y, **kw: TraversalDisplay.from_estimator(
        est, X, y, dimension=0, by_class=True, image_shape=IMAGE, **kw
    ),
    "classes-table": lambda est, X, y, **kw: TraversalDisplay.from_estimator(
        est, X, y, dimension=0, by_class=True, **kw
    ),
}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    est = ClassVSCTransformer(12, hidden_layer_sizes=(32,), max_epochs=15, random_state=0)
    return est.fit(X, y), X, y


@pytest.fixture(params=list(PLOTS))
def plot(request):
    return PLOTS[request.param]


def bare_axes(width=7.0, height=4.0):
    """Axes that pyplot knows nothing of."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure.subplots()


def many_codes(n_classes, d, name=str):
    """Codes with dimensions of every role, and their labels."""
    rng = np.random.default_rng(0)
    p = rng.random((n_classes, d)) ** 4
    p[:, : d // 10] = 1
    p[:, -d // 10 :] = 0
    own = np.arange(d // 2, 3 * d // 4)
    p[:, own] = 0
    p[own % n_classes, own] = 0.95
    y = np.repeat(np.arange(n_classes), 20)
    names = np.array([name(c) for c in range(n_classes)])
    return (rng.random((len(y), d)) < p[y]).astype(float), names[y]


def label_boxes(axis):
    """Bounding boxes of the labels of an axis, as drawn."""
    figure = axis.axes.figure
    figure.canvas.draw()
    labels = [label for label in axis.get_ticklabels() if label.get_text()]
    return [label.get_window_extent(figure.canvas.get_renderer()) for label in labels]


def shown(axis):
    """Texts of the labels of an axis, as drawn."""
    axis.axes.figure.canvas.draw()
    return [label.get_text() for label in axis.get_ticklabels()]


def svg(figure):
    """The figure as SVG with its texts as texts, without the comments that quote them."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg")
    return re.sub("<!--.*?-->", "", buffer.getvalue(), flags=re.DOTALL)


# -- the convention ----------------------------------------------------------------------------


def test_a_display_makes_a_figure_of_its_own(digits, plot):
    display = plot(*digits)
    assert plt.get_fignums() == [display.figure_.number]
    assert display.ax_.figure is display.figure_


def test_a_display_draws_on_the_axes_it_is_given(digits, plot):
    ax = bare_axes()
    display = plot(*digits, ax=ax)
    assert display.ax_ is ax and display.figure_ is ax.figure
    assert plt.get_fignums() == []
    assert len(svg(ax.figure)) > 1000
    display.figure_.canvas.draw()
    outside = display.ax_.get_tightbbox().padded(-1)  # within the page, to a pixel
    assert ax.figure.bbox.containsx(outside.x0) and ax.figure.bbox.containsx(outside.x1)
    assert ax.figure.bbox.containsy(outside.y0) and ax.figure.bbox.containsy(outside.y1)


def test_a_display_draws_in_a_subfigure(digits, plot):
    figure = Figure(layout="constrained")
    ax = figure.subfigures(1, 2)[1].subplots()
    assert plot(*digits, ax=ax).ax_ is ax
    figure.savefig(io.BytesIO())


def test_plotting_twice_gives_the_same_picture(digits, plot):
    display = plot(*digits)
    first = display.figure_
    assert display.plot() is display
    assert display.figure_ is not first
    pictures = []
    for figure in (first, display.figure_):
        figure.canvas.draw()
        pictures.append(np.asarray(figure.canvas.buffer_rgba()))
    assert_array_equal(*pictures)


def test_plotting_changes_no_global_state(digits, plot):
    before = dict(matplotlib.rcParams)
    state = np.random.get_state()[1].copy()
    plot(*digits)
    assert dict(matplotlib.rcParams) == before
    assert_array_equal(np.random.get_state()[1], state)


def test_matplotlib_is_imported_for_plots_only():
    code = "import sklearn_classvsc.displays, sys; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch, digits, plot):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "sklearn_classvsc.displays._plot", raising=False)
    monkeypatch.delattr("sklearn_classvsc.displays._plot", raising=False)
    with pytest.raises(ImportError, match=r'pip install "sklearn-classvsc\[plot\]"'):
        plot(*digits)


# -- labels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [False, True], ids=["own figure", "given axes"])
@pytest.mark.parametrize(
    ("n_classes", "d", "name"),
    [(2, 6, "{}"), (10, 50, "{}"), (10, 50, LONG), (100, 100, LONG)],
)
@pytest.mark.parametrize("display", [ActivationDisplay, SharingDisplay])
def test_labels_do_not_overlap(display, n_classes, d, name, given):
    """Given axes may be too small for every label; a figure of its own has room for all."""
    Z, y = many_codes(n_classes, d, name.format)
    ax = display.from_codes(Z, y, ax=bare_axes() if given else None).ax_
    n_columns = d if display is ActivationDisplay else n_classes
    for axis, n in ((ax.xaxis, n_columns), (ax.yaxis, n_classes)):
        boxes = label_boxes(axis)
        assert 2 <= len(boxes) <= n if given else len(boxes) == n
        assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))
        page = ax.figure.bbox.padded(1)
        assert all(page.contains(b.x0, b.y0) and page.contains(b.x1, b.y1) for b in boxes)


def test_names_are_shown_as_they_are(digits):
    """No dollar is mathtext: most of these names would not even parse."""
    est, X, y = digits
    names = np.array([f"{c} $x_{c}$ <b>&\\$" for c in range(10)])
    figures = [
        PLOTS[name](est, X, names[y]).figure_
        for name in ("activation", "sharing", "reconstruction-images")
    ]
    for figure in figures:
        text = svg(figure)
        assert all(f"{c} $x_{c}$ &lt;b&gt;&amp;\\$" in text for c in range(10))
    traversal = PLOTS["traversal-images"](est, X, names[y]).figure_
    assert "in 0 $x_0$ &lt;b&gt;&amp;\\$: 5 % to 95 % quantile" in svg(traversal)


def test_feature_names_are_shown_as_they_are():
    X, _ = load_iris(return_X_y=True, as_frame=True)
    X.columns = ["$a_", "$b$", r"\frac{$c$", "d\nd"]
    est = small(VSCTransformer, max_epochs=50).fit(X)
    dimension = int(np.flatnonzero(est.transform(X).any(axis=0))[0])
    for display in (
        ReconstructionDisplay.from_estimator(est, X),
        TraversalDisplay.from_estimator(est, X, dimension=dimension),
    ):
        text = svg(display.figure_)
        assert all(name in text for name in ("$a_", "$b$", r"\frac{$c$", "d d"))
        assert set(display.frame()["feature"]) == set(X)


def test_long_names_are_cut_in_the_middle():
    Z, y = many_codes(10, 20, lambda c: f"the quick brown fox jumps over the lazy dog {c}")
    display = ActivationDisplay.from_codes(Z, y)
    assert shown(display.ax_.yaxis) == [f"the quick brown …azy dog {c}" for c in range(10)]
    assert display.frame()["class"].str.len().min() > 40


# -- activation --------------------------------------------------------------------------------


def test_activation_shows_how_often_each_class_has_each_dimension(digits):
    est, X, y = digits
    display = ActivationDisplay.from_estimator(est, X, y)
    Z = est.transform(X)
    rates = np.array([(Z[y == c] != 0).mean(axis=0) for c in range(10)])
    assert_allclose(display.im_.get_array(), rates[:, display.order_])
    frame = display.frame()
    assert_allclose(frame.pivot(index="class", columns="dimension", values="activity"), rates)
    roles = dimension_roles(Z, y)["role"]
    assert (frame.groupby("dimension")["role"].first() == roles).all()


def test_dimensions_are_ordered_by_role_then_by_class():
    y = np.repeat(["a", "b", "c"], 10)
    is_a, is_b, is_c = (y == name for name in "abc")
    dead, odd = np.zeros(30), np.arange(30) % 5 == 0
    Z = np.column_stack([is_c, dead, is_a, is_b | is_c, np.ones(30), odd, is_b, is_a | is_b])
    display = ActivationDisplay.from_codes(csr_array(Z.astype(float)), y)
    assert display.order_.tolist() == [4, 7, 3, 2, 6, 0, 5, 1]
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend == ["global (1)", "shared (2)", "class-specific (3)", "sporadic (1)", "dead (1)"]
    strips = [(p.get_x(), p.get_width()) for p in display.ax_.patches]
    assert strips == [(-0.5, 1), (0.5, 2), (2.5, 3), (5.5, 1), (6.5, 1)]


# -- sharing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("include_global", [False, True])
def test_sharing_shows_the_overlap_of_classes(digits, include_global):
    est, X, y = digits
    Z = est.transform(X)
    kept = dimension_roles(Z, y)["role"] != "global"
    M = class_sharing_matrix(Z if include_global else Z[:, kept], y)
    display = SharingDisplay.from_estimator(est, X, y, include_global=include_global, order="label")
    assert_allclose(display.im_.get_array(), M)
    frame = display.frame().pivot(index="class", columns="other", values="sharing")
    assert_allclose(frame, M)


def test_alike_classes_stand_side_by_side():
    y = np.tile(np.arange(6), 10)
    Z = np.column_stack([y % 2 == 0, y % 2 == 1, y % 3 == 0]).astype(float)
    display = SharingDisplay.from_codes(Z, y)
    assert set(display.order_[:3]) in ({0, 2, 4}, {1, 3, 5})
    M = class_sharing_matrix(Z, y)
    assert_allclose(display.im_.get_array(), M[np.ix_(display.order_, display.order_)])
    assert_array_equal(display.plot(order="label").order_, np.arange(6))


def test_values_are_written_where_there_is_room():
    Z, y = many_codes(10, 20)
    assert len(SharingDisplay.from_codes(Z, y).ax_.texts) == 100
    assert len(SharingDisplay.from_codes(Z, y, ax=bare_axes(3, 2)).ax_.texts) == 0


def test_a_class_of_one_sample_has_no_consistency():
    Z, y = many_codes(3, 10)
    display = SharingDisplay.from_codes(np.vstack([Z, Z[:1]]), [*y, "9"])
    assert np.isnan(display.sharing).sum() == 1
    svg(display.figure_)


def test_the_order_is_one_of_two():
    Z, y = many_codes(3, 10)
    with pytest.raises(ValueError, match="order is 'size', but must be 'similarity' or 'label'"):
        SharingDisplay.from_codes(Z, y, order="size")


@pytest.mark.parametrize("display", [ActivationDisplay, SharingDisplay])
def test_codes_of_anything_can_be_shown(display, digits):
    _, X, y = digits
    codes = PCA(6).fit_transform(X)  # dense: every dimension is global
    assert len(display.from_codes(codes, y).frame()) in (60, 100)


# -- traversal ---------------------------------------------------------------------------------


def panels(display, n_rows, n_columns):
    """Cut a mosaic of digits: (rows, columns, 8, 8) of its first colour channel."""
    canvas = np.asarray(display.ax_.images[0].get_array())[..., 0]
    return [[canvas[9 * i :, 9 * j :][:8, :8] for j in range(n_columns)] for i in range(n_rows)]


def test_a_traversal_shows_the_sample_each_step_and_the_change(digits):
    est, X, y = digits
    display = TraversalDisplay.from_estimator(
        est, X, y, dimension=0, label=3, n_steps=4, image_shape=IMAGE
    )
    t = traverse(est, X, y, dimension=0, label=3, n_steps=4)
    ((sample, *steps, change),) = panels(display, 1, 6)
    images = np.array([X[t.sample], *t.X_hat])
    grey = (images - images.min()) / np.ptp(images)
    assert_allclose([sample, *steps], grey.reshape(-1, *IMAGE), atol=1e-6)
    difference = t.X_hat[-1] - t.X_hat[0]
    brighter = np.unravel_index(difference.argmax(), IMAGE)
    blue = np.asarray(display.im_.get_array())[: IMAGE[0], -IMAGE[1] :, 2]
    assert change[brighter] > blue[brighter]  # red
    assert "; change: red brighter, blue darker" in svg(display.figure_)
    assert shown(display.ax_.xaxis) == ["sample", *(number(v, 2) for v in t.values), "change"]


def test_thousands_are_written_out():
    texts = [number(value) for value in (1090.4, -0.02951, 2250, 1e-7, 0)]
    assert texts == ["1090", "−0.0295", "2250", "1.00e−07", "0"]
    assert number(-6.64, 2) == "−6.6" and number(3, sign=True) == "+3"


def test_a_traversal_of_a_table_shows_the_features_that_move_most():
    X, _ = load_iris(return_X_y=True, as_frame=True)
    X["area"] = 1000 * X["sepal length (cm)"]  # the same in other units: moves as far
    est = small(VSCTransformer, max_epochs=100).fit(X)
    dimension = int((est.transform(X) != 0).sum(axis=0).argmax())
    display = TraversalDisplay.from_estimator(est, X, dimension=dimension, n_steps=5, k=3)
    t = display.traversal
    moved = np.ptp(t.X_hat, axis=0) / X.std(ddof=0).to_numpy()
    top = np.argsort(-moved)[:3]
    assert shown(display.ax_.yaxis) == X.columns[top].tolist()
    cells = [text.get_text() for text in display.ax_.texts]
    assert cells == [f"{value:.3g}" for value in t.X_hat[:, top].T.ravel()]
    expected = ((t.X_hat - t.X_hat[0]) / X.std(ddof=0).to_numpy())[:, top].T
    assert_allclose(display.im_.get_array(), expected, atol=1e-6)


def test_the_frame_of_a_traversal_has_every_feature(digits):
    est, X, y = digits
    display = TraversalDisplay.from_estimator(est, X, y, dimension=1, label=y[0], n_steps=3)
    frame = display.frame()
    assert list(frame) == ["step", "quantile", "value", "feature", "decoded"]
    assert_allclose(frame["decoded"], display.traversal.X_hat.ravel())
    assert frame["feature"].tolist()[:2] == ["x0", "x1"]
    assert frame.groupby("step")["value"].first().tolist() == display.traversal.values.tolist()


def test_a_dimension_must_be_active_in_the_class():
    Z, y = many_codes(4, 8)
    nmf = NMF(2, init="nndsvd").fit(Z)
    with pytest.raises(ValueError, match="dimension == 5, must be <= 1"):
        TraversalDisplay.from_estimator(nmf, Z, y, dimension=5)


# -- reconstruction ----------------------------------------------------------------------------


def test_reconstructions_stand_below_the_first_samples_of_each_class(digits):
    est, X, y = digits
    display = ReconstructionDisplay.from_estimator(est, X, y, image_shape=IMAGE)
    first = [int(np.flatnonzero(y == c)[0]) for c in range(10)]
    assert_array_equal(display.originals, X[first])
    assert_allclose(display.reconstructions, est.inverse_transform(est.transform(X[first])), 1e-4)
    images = np.concatenate([display.originals, display.reconstructions])
    grey = (images - images.min()) / np.ptp(images)
    drawn = np.reshape(panels(display, 2, 10), (20, -1))
    assert_allclose(drawn, grey, atol=1e-6)
    assert shown(display.ax_.xaxis) == [str(c) for c in range(10)]
    frame = display.frame()
    assert_allclose(frame["reconstruction"], display.reconstructions.ravel())
    assert frame["class"].tolist()[::64] == list(range(10))


def test_more_samples_than_classes_are_the_second_of_each(digits):
    est, X, y = digits
    display = ReconstructionDisplay.from_estimator(est, X, y, image_shape=IMAGE, n_samples=13)
    assert display.labels.tolist() == [*range(10), 0, 1, 2]
    seconds = [int(np.flatnonzero(y == c)[1]) for c in range(3)]
    assert_array_equal(display.originals[10:], X[seconds])


def test_without_labels_samples_are_of_every_class_in_whatever_order_they_come(digits):
    est, X, _ = digits
    X = np.tile(X[:2], (8, 1))[:15]
    display = ReconstructionDisplay.from_estimator(est, X, image_shape=IMAGE, n_samples=8)
    assert_array_equal(np.unique(display.originals, axis=0), np.unique(X, axis=0))
    assert display.labels is None
    assert "class" not in display.frame()


@pytest.mark.parametrize("container", [np.asarray, csr_array])
def test_tables_show_the_explained_variance_of_each_feature(digits, container):
    est, X, y = digits
    display = ReconstructionDisplay.from_estimator(est, container(X), y, k=5)
    X_hat = est.inverse_transform(est.transform(X))
    r2 = explained_variance_score(X, X_hat, multioutput="raw_values")
    constant = np.ptp(X, axis=0) == 0
    assert constant.any()
    frame = display.frame().set_index("feature")["explained_variance"]
    expected = dict(zip([f"x{i}" for i in range(64)], np.where(constant, np.nan, r2), strict=True))
    assert frame.to_dict() == pytest.approx(expected, abs=1e-5, nan_ok=True)
    worst = np.argsort(np.where(constant, np.inf, r2), kind="stable")[:5]
    assert shown(display.ax_.yaxis) == [f"x{i}" for i in worst]
    assert_allclose([bar.get_width() for bar in display.ax_.patches], r2[worst], atol=1e-5)


def test_colour_images_keep_their_colours():
    rng = np.random.default_rng(0)
    X = rng.random((30, 4 * 5 * 3))
    nmf = NMF(3, init="nndsvd", max_iter=2000).fit(X)
    display = ReconstructionDisplay.from_estimator(nmf, X, image_shape=(4, 5, 3), n_samples=2)
    canvas = np.asarray(display.ax_.images[0].get_array())
    assert_allclose(
        canvas[:4, :5], display.originals[0].reshape(4, 5, 3)
    )  # values in [0, 1] are not stretched


@pytest.mark.parametrize("image_shape", [(8, 9), (64,), (4, 4, 4), (2, 2, 16)])
@pytest.mark.parametrize("name", ["reconstruction-table", "traversal-table"])
def test_the_image_shape_must_fit_the_features(digits, name, image_shape):
    with pytest.raises(ValueError, match=r"image_shape is .* of the 64 features"):
        PLOTS[name](*digits, image_shape=image_shape)


@pytest.mark.parametrize("name", ["reconstruction-table", "traversal-table"])
def test_k_must_be_positive(digits, name):
    with pytest.raises(ValueError, match="k == 0, must be >= 1"):
        PLOTS[name](*digits, k=0)


# -- labels, as the estimator reads them -------------------------------------------------------


@pytest.mark.parametrize("container", [np.asarray, pd.DataFrame])
def test_displays_leave_out_samples_without_a_label(container):
    X, y = load_iris(return_X_y=True)
    labeled = np.arange(150) % 3 != 0
    partly = np.where(labeled, np.array([*"abc"])[y], "?")
    est = small(ClassVSCTransformer, unlabeled="?").fit(X, partly)
    for plot in (
        ActivationDisplay.from_estimator,
        SharingDisplay.from_estimator,
        ReconstructionDisplay.from_estimator,
        lambda *data: ReconstructionDisplay.from_estimator(*data, image_shape=(2, 2)),
        lambda *data: TraversalDisplay.from_estimator(*data, dimension=0, label="b"),
    ):
        expected = plot(est, X[labeled], partly[labeled]).frame()
        pd.testing.assert_frame_equal(plot(est, X, container(partly)).frame(), expected)
        with pytest.raises(ValueError, match="y holds no label"):
            plot(est, X, ["?"] * 150)


def test_displays_name_the_columns_of_an_indicator_as_the_fit_did():
    X, y = load_iris(return_X_y=True)
    members = pd.get_dummies(np.array([*"abc"])[y], dtype=int)
    est = small(ClassVSCTransformer).fit(X, members)
    for display in (ActivationDisplay, SharingDisplay):
        for container in (members, members.to_numpy()):
            shown = display.from_estimator(est, X, container)
            assert shown.classes.tolist() == ["a", "b", "c"]


# -- history -----------------------------------------------------------------------------------


def test_history_has_a_lane_for_each_term(digits):
    est, _, _ = digits
    display = HistoryDisplay.from_estimator(est)
    terms = ["loss", *est.history_.columns[2:]]
    assert shown(display.ax_.yaxis) == terms
    for lane, (line, column) in enumerate(
        zip(display.lines_, ["train_loss", *terms[1:]], strict=True)
    ):
        values = est.history_[column].to_numpy()
        height = lane + 0.9 - 0.8 * (values - values.min()) / np.ptp(values)
        assert_allclose(line.get_ydata(), height)
        assert_array_equal(line.get_xdata(), est.history_["epoch"])
    assert display.ax_.yaxis_inverted()
    notes = [text.get_text() for text in display.ax_.texts]
    loss = est.history_["train_loss"]
    assert f"{loss.iloc[0]:.3g} → {loss.iloc[-1]:.3g}" in notes


def test_history_of_training_and_validation_share_a_lane():
    X, _ = load_iris(return_X_y=True)
    est = small(VSCTransformer, early_stopping=True).fit(X)
    display = HistoryDisplay.from_estimator(est)
    assert len(display.lines_) == 2 * len(shown(display.ax_.yaxis))
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend == ["training", "validation"]
    frame = display.frame()
    wide = frame.pivot(index="epoch", columns=["part", "term"], values="value")
    assert_allclose(wide["valid"]["loss"], est.history_["valid_loss"])
    assert_allclose(wide["train"]["slab_kl"], est.history_["slab_kl"])


def test_one_epoch_is_a_dot():
    X, _ = load_iris(return_X_y=True)
    display = HistoryDisplay.from_estimator(small(VSCTransformer, max_epochs=1).fit(X))
    assert all(line.get_marker() == "o" for line in display.lines_)


# -- factor ------------------------------------------------------------------------------------


def test_a_factor_is_shown_by_its_lowest_and_highest_samples(digits):
    est, X, y = digits
    j = int((est.transform(X) != 0).sum(axis=0).argmax())
    display = FactorDisplay.from_estimator(est, X, y, j, n_samples=3, image_shape=IMAGE)
    pd.testing.assert_frame_equal(display.frame(), top_samples(est, X, y, factor=j, k=3))
    assert_array_equal(display.originals, X[display.samples["sample"]])
    z = est.transform(X)[:, j]
    assert_array_equal(display.values, z[z != 0])
    assert_array_equal(display.labels, y[z != 0])
    assert_allclose(display.effect, feature_effects(est, X).loc[[j]], atol=1e-5)
    strip = np.asarray(display.ax_.child_axes[0].images[0].get_array())[..., 0]
    first = X[display.samples["sample"][0]].reshape(8, 8)
    assert_allclose(strip[:8, :8], (first - first.min()) / 16, atol=1e-6)
    images, values, effect = display.ax_.child_axes
    low, high = images.texts
    assert [low.get_text(), high.get_text()] == ["lowest values", "highest values"]
    _, before, after, _ = [images.get_xticks()[i] for i in (0, 2, 3, 5)]
    assert low.get_position()[0] < before < after < high.get_position()[0]
    for tick in values.get_yticklabels():
        label, n = re.fullmatch(r"(\d+) \(([\d,]+)\)", tick.get_text()).groups()
        assert int(n.replace(",", "")) == (z[y == int(label)] != 0).sum()
    assert "red: brighter, blue: darker" in effect.get_xlabel()


def test_a_factor_of_a_table_names_the_features_that_move_most():
    X, y = load_iris(return_X_y=True, as_frame=True)
    est = small(ClassVSCTransformer, max_epochs=60).fit(X, y)
    j = int((est.transform(X) != 0).sum(axis=0).argmax())
    display = FactorDisplay.from_estimator(est, X, y, j, k=2, names={j: "size $x_1$"})
    top = top_features(feature_effects(est, X).loc[[j]], k=2)["feature"].tolist()
    rows, _, effect = display.ax_.child_axes
    assert [t.get_text() for t in rows.get_xticklabels()] == top
    assert [t.get_text() for t in effect.get_yticklabels()] == top
    assert f"dimension {j}: size $x_1$" in svg(display.figure_)
    assert [text.get_text() for text in rows.texts[-2:]] == ["lowest", "highest"]
    assert "standard deviations from the mean" in rows.get_xlabel()
    with pytest.raises(ValueError, match="names has the key 9, but the dimensions are 0 to 5"):
        FactorDisplay.from_estimator(est, X, y, j, names={9: "a"})


def test_a_factor_display_keeps_to_samples_with_a_label():
    X, y = load_iris(return_X_y=True)
    partly = np.where(np.arange(150) % 2, y, -1)
    est = small(ClassVSCTransformer, unlabeled=-1, max_epochs=60).fit(X, partly)
    j = int((est.transform(X) != 0).sum(axis=0).argmax())
    display = FactorDisplay.from_estimator(est, X, partly, j)
    assert (display.samples["sample"] % 2 == 1).all()
    assert_array_equal(display.originals, X[display.samples["sample"]])


def test_displays_take_missing_values():
    X, y = load_iris(return_X_y=True, as_frame=True)
    gaps = X.mask(np.random.default_rng(0).random(X.shape) < 0.1)
    est = small(ClassVSCTransformer, max_epochs=60).fit(gaps, y)
    j = int((est.transform(gaps) != 0).sum(axis=0).argmax())
    for display in (
        FactorDisplay.from_estimator(est, gaps, y, j),
        ReconstructionDisplay.from_estimator(est, gaps, y),
        TraversalDisplay.from_estimator(est, gaps, y, dimension=j, by_class=True),
    ):
        assert len(svg(display.figure_)) > 1000
    kept = ReconstructionDisplay.from_estimator(est, gaps, y).explained_variance
    assert kept.mean() == pytest.approx(fidelity_scorer(est, gaps))


def test_a_traversal_may_be_over_all_classes_at_the_same_values(digits):
    est, X, y = digits
    Z = est.transform(X)
    j = int((Z != 0).sum(axis=0).argmax())
    display = TraversalDisplay.from_estimator(
        est, X, y, dimension=j, by_class=True, n_steps=3, image_shape=IMAGE, names={j: "slant"}
    )
    having = [c for c in range(10) if (Z[y == c, j] != 0).mean() >= 0.5]
    assert [t.label for t in display.traversal] == having
    values = np.quantile(Z[Z[:, j] != 0, j].astype(float), [0.05, 0.5, 0.95])
    for row, t in enumerate(display.traversal):
        assert_allclose(t.values, values)
        assert_allclose(t.codes[:, j], values, rtol=1e-6)
        assert_allclose(t.X_hat, est.inverse_transform(t.codes))
        assert y[t.sample] == t.label
        assert_array_equal(display.original[row], X[t.sample])
    frame = display.frame()
    assert frame["class"].unique().tolist() == having and len(frame) == len(having) * 3 * 64
    assert f"dimension {j} (slant): 5 % to 95 % quantile" in svg(display.figure_)


def test_a_traversal_over_all_classes_needs_them(digits):
    est, X, y = digits
    with pytest.raises(ValueError, match="y is None, but by_class needs classes"):
        TraversalDisplay.from_estimator(est, X, dimension=0, by_class=True)
    with pytest.raises(ValueError, match="label is 3, but by_class sweeps all"):
        TraversalDisplay.from_estimator(est, X, y, dimension=0, by_class=True, label=3)


def test_activation_labels_dimensions_by_the_names_given_to_them(digits, tmp_path):
    est, X, y = digits
    path = tmp_path / "names.json"
    path.write_text('{"3": "$heel$"}')
    display = ActivationDisplay.from_estimator(est, X, y, names=path)
    assert "3: $heel$" in svg(display.figure_)
