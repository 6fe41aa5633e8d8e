"""Generators of data with known class factors or topics, and a loader of image data sets."""

from __future__ import annotations

import gzip
from math import ceil, comb, prod
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix
from sklearn.datasets import fetch_openml
from sklearn.utils import Bunch, check_random_state, check_scalar

from ._messages import brief
from ._tables import positive_integers

__all__ = ["fetch_images", "make_class_factors", "make_class_topics"]

# Folder of the IDX files of each data set, and the names of the files.
_FOLDERS = {"Fashion-MNIST": "fashion-mnist", "mnist_784": "mnist"}
_IDX_FILES = {
    "X_train": "train-images-idx3-ubyte.gz",
    "X_test": "t10k-images-idx3-ubyte.gz",
    "y_train": "train-labels-idx1-ubyte.gz",
    "y_test": "t10k-labels-idx1-ubyte.gz",
}


def make_class_factors(
    n_samples: int = 1000,
    n_features: int = 64,
    *,
    n_classes: int = 5,
    n_global: int = 2,
    n_shared: int = 3,
    n_specific: int = 1,
    classes_per_shared: int = 2,
    activity: float = 1.0,
    noise: float = 0.1,
    n_labels: float = 1.0,
    weights: ArrayLike | None = None,
    image_shape: tuple[int, int] | None = None,
    return_X_y: bool = False,
    random_state: int | RandomState | None = None,
) -> Bunch | tuple[NDArray[np.float64], NDArray[np.intp]]:
    r"""Generate samples from sparse factors that all, some or single classes have.

    Each class c has a set of factors, the row :math:`s_c` of `supports`: all global factors, some
    shared factors, and its class-specific factors. A sample of class c is

    .. math:: x = D^\top z + \varepsilon, \quad z_f = s_{cf} \, b_f \, v_f, \quad
              b_f \sim \operatorname{Bern}(\text{activity}), \quad
              v_f \sim \operatorname{Gamma}(4, 1/4), \quad
              \varepsilon \sim N(0, \text{noise}^2 I),

    so that an active factor has a positive value of mean 1 and standard deviation 0.5, and all
    other codes z are exactly 0. Every factor has its own features, which are a row of the
    dictionary D, and its own values. A code can therefore separate factors of the same classes.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of samples.
    n_features : int, default=64
        Number of features, at least the number of factors. Ignored with `image_shape`.
    n_classes : int, default=5
        Number of classes, at least two.
    n_global : int, default=2
        Number of factors that every class has.
    n_shared : int, default=3
        Number of factors that `classes_per_shared` classes have. Each has another set of classes.
    n_specific : int, default=1
        Number of class-specific factors *of each class*.
    classes_per_shared : int, default=2
        Number of classes that have a shared factor: at least two, and so few that the factor is not
        global (see :func:`~sklearn_classvsc.metrics.dimension_roles`).
    activity : float, default=1.0
        Probability that a factor of the class is active in a sample. It is the expected class
        consistency of the true codes.
    noise : float, default=0.1
        Standard deviation of the noise.
    n_labels : float, default=1.0
        Mean number of classes of a sample. Above 1, a sample has one class for certain and each
        other class with the same probability. It has the factors of all its classes, and `target`
        is an indicator.
    weights : array-like of shape (n_classes,), default=None
        Positive proportions of the classes; only their ratios matter. None means equal. Class sizes
        differ from them only by rounding.
    image_shape : tuple of (height, width), default=None
        None makes a table: each factor has a disjoint set of features, with weights of either sign
        and magnitude 0.5 to 1.5. A shape makes flattened images in [0, 1]: each factor is a bright
        blob on a grid, where blobs hardly overlap, and samples are clipped.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of the Bunch.
    random_state : int, RandomState instance or None, default=None
        Draws all random numbers.

    Returns
    -------
    data : Bunch
        - `data`: ndarray of shape (n_samples, n_features);
        - `target`: ndarray of shape (n_samples,), classes 0 to n_classes - 1, or an indicator of
          shape (n_samples, n_classes) if `n_labels` is above 1;
        - `supports`: boolean ndarray of shape (n_classes, n_factors), which factors a class has;
        - `codes`: ndarray of shape (n_samples, n_factors), the true z;
        - `dictionary`: ndarray of shape (n_factors, n_features), D;
        - `roles`: ndarray of shape (n_factors,), "global", "shared" or "class-specific", in this
          order.

    Raises
    ------
    ValueError
        If an argument is out of range, or if the classes, features or pixels are too few for the
        factors.

    See Also
    --------
    make_class_topics : Counts of words instead of real numbers.
    sklearn_classvsc.metrics.role_recovery_score : Compare a code with `supports`.

    Examples
    --------
    >>> from sklearn_classvsc.datasets import make_class_factors
    >>> factors = make_class_factors(n_classes=3, n_global=1, n_shared=1, random_state=0)
    >>> factors.data.shape
    (1000, 64)
    >>> factors.supports.astype(int)
    array([[1, 0, 1, 0, 0],
           [1, 1, 0, 1, 0],
           [1, 1, 0, 0, 1]])
    >>> factors.roles.tolist()
    ['global', 'shared', 'class-specific', 'class-specific', 'class-specific']
    """
    _check_factors(
        n_samples, n_features, n_classes, n_global, n_shared, n_specific, classes_per_shared
    )
    check_scalar(activity, "activity", Real, min_val=0, max_val=1, include_boundaries="right")
    check_scalar(noise, "noise", Real, min_val=0)
    check_scalar(n_labels, "n_labels", Real, min_val=1, max_val=n_classes)
    sides = positive_integers(image_shape) or []
    if image_shape is not None and len(sides) != 2:
        raise ValueError(
            f"image_shape is {brief(image_shape)}, but must be (height, width), two positive "
            "integers."
        )
    rng = check_random_state(random_state)

    supports = _supports(n_classes, n_global, n_shared, n_specific, classes_per_shared, rng)
    n_factors = supports.shape[1]
    target = _labels(n_samples, n_classes, weights, rng)
    having = supports[target]
    if n_labels > 1:
        others = rng.uniform(size=(n_samples, n_classes)) < (n_labels - 1) / (n_classes - 1)
        target = (others | np.eye(n_classes, dtype=bool)[target]).astype(np.intp)
        having = target @ supports > 0
    active = having & (rng.uniform(size=(n_samples, n_factors)) < activity)
    codes = active * rng.gamma(4, 1 / 4, size=active.shape)
    if image_shape is None:
        dictionary = _disjoint_patterns(n_factors, n_features, rng)
    else:
        dictionary = _blobs(n_factors, sides)
    data = codes @ dictionary
    data += rng.normal(scale=noise, size=data.shape)
    if image_shape is not None:
        data = data.clip(0, 1)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        supports=supports,
        codes=codes,
        dictionary=dictionary,
        roles=_roles(n_classes, n_global, n_shared, n_specific),
    )


def make_class_topics(
    n_samples: int = 1000,
    n_features: int = 2000,
    *,
    n_classes: int = 5,
    n_global: int = 2,
    n_shared: int = 3,
    n_specific: int = 1,
    classes_per_shared: int = 2,
    activity: float = 1.0,
    background: float = 0.5,
    length: float = 100.0,
    weights: ArrayLike | None = None,
    return_X_y: bool = False,
    random_state: int | RandomState | None = None,
) -> Bunch | tuple[csr_matrix, NDArray[np.intp]]:
    r"""Generate counts of words in texts, from topics that classes have or share.

    Classes have topics as they have factors in :func:`make_class_factors`. The counts x of a text
    of class c are drawn by

    .. math:: \text{length} \sim 1 + \operatorname{NegBin}, \quad
              x \sim \operatorname{Multinomial}\Big(\text{length},\ b \, w_0 + (1 - b)
              \sum_f z_f w_f / \sum_f z_f \Big), \quad
              z_f = s_{cf} \, b_f \, v_f,

    with :math:`b_f` and :math:`v_f` as there. The frequencies :math:`w_0` of the words in the
    language are proportional to 1 / rank (Zipf's law). Half of all words belong to one topic each.
    The frequencies :math:`w_f` of the words of a topic have the same ratios as in the language.
    Texts without an active topic are drawn from the language.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of texts.
    n_features : int, default=2000
        Number of words, at least two for each topic. The 20 newsgroups have about 100,000.
    n_classes : int, default=5
        Number of classes, at least two.
    n_global : int, default=2
        Number of topics that every class has.
    n_shared : int, default=3
        Number of topics that `classes_per_shared` classes have. Each has another set of classes.
    n_specific : int, default=1
        Number of class-specific topics *of each class*.
    classes_per_shared : int, default=2
        Number of classes that have a shared topic.
    activity : float, default=1.0
        Probability that a topic of the class is active in a text.
    background : float, default=0.5
        Fraction b of words that come from the language and not from a topic, in [0, 1).
    length : float, default=100.0
        Mean number of words in a text, at least 1. For long texts, its standard deviation is half
        of the mean. Every text has at least one word.
    weights : array-like of shape (n_classes,), default=None
        Positive proportions of the classes; only their ratios matter. None means equal.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of the Bunch.
    random_state : int, RandomState instance or None, default=None
        Draws all random numbers.

    Returns
    -------
    data : Bunch
        - `data`: CSR matrix of int32 of shape (n_samples, n_features), counts;
        - `target`: ndarray of shape (n_samples,), classes 0 to n_classes - 1;
        - `supports`: boolean ndarray of shape (n_classes, n_topics), which topics a class has;
        - `codes`: ndarray of shape (n_samples, n_topics), the true z;
        - `dictionary`: ndarray of shape (n_topics, n_features), the probabilities w_f;
        - `language`: ndarray of shape (n_features,), the probabilities w_0;
        - `feature_names`: ndarray of shape (n_features,), such as "t3w0" for the most frequent word
          of topic 3, and "w0" for the most frequent word without a topic;
        - `roles`: ndarray of shape (n_topics,), "global", "shared" or "class-specific", in this
          order.

    Raises
    ------
    ValueError
        If an argument is out of range, or if the classes or words are too few for the topics.

    See Also
    --------
    make_class_factors : Real-valued features and images.
    sklearn.datasets.fetch_20newsgroups_vectorized : Real texts in this form, with
        ``normalize=False``.

    Examples
    --------
    >>> from sklearn_classvsc.datasets import make_class_topics
    >>> topics = make_class_topics(n_classes=3, n_shared=1, random_state=0)
    >>> topics.data.shape, topics.data.dtype
    ((1000, 2000), dtype('int32'))
    >>> topics.roles.tolist()
    ['global', 'global', 'shared', 'class-specific', 'class-specific', 'class-specific']
    """
    _check_factors(
        n_samples, n_features, n_classes, n_global, n_shared, n_specific, classes_per_shared
    )
    check_scalar(activity, "activity", Real, min_val=0, max_val=1, include_boundaries="right")
    check_scalar(background, "background", Real, min_val=0, max_val=1, include_boundaries="left")
    check_scalar(length, "length", Real, min_val=1)
    rng = check_random_state(random_state)

    supports = _supports(n_classes, n_global, n_shared, n_specific, classes_per_shared, rng)
    n_topics = supports.shape[1]
    if n_features < 2 * n_topics:
        raise ValueError(
            f"n_features is {n_features}, but each of the {n_topics} topics needs two words: "
            "raise n_features, or lower the number of topics."
        )
    target = _labels(n_samples, n_classes, weights, rng)
    active = supports[target] & (rng.uniform(size=(n_samples, n_topics)) < activity)
    codes = active * rng.gamma(4, 1 / 4, size=active.shape)

    rank = rng.permutation(n_features)  # of each word, from 0
    language = 1 / (1 + rank)
    language /= language.sum()
    # Words of neighbouring ranks belong to different topics, so that all have frequent words.
    owner = np.where(rank % 2 == 0, rank // 2 % n_topics, -1)
    # The language is the last topic.
    shares = codes / np.maximum(codes.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    shares = np.c_[(1 - background) * shares, np.zeros(n_samples)]
    shares[:, -1] = 1 - shares.sum(axis=1)
    # Gamma rates of shape 4 give long texts a standard deviation of half the mean.
    lengths = 1 + rng.poisson((length - 1) * rng.gamma(4, 1 / 4, size=n_samples))
    texts = np.repeat(np.arange(n_samples), lengths)
    bounds = shares.cumsum(axis=1)
    u, topic = rng.uniform(size=len(texts)), np.zeros(len(texts), np.intp)
    for bound in bounds.T[:-1]:
        topic += u >= bound[texts]
    dictionary = (owner == np.arange(n_topics)[:, None]) * language
    dictionary /= dictionary.sum(axis=1, keepdims=True)
    words = np.empty(len(texts), np.int32)
    for f, p in enumerate([*dictionary, language]):
        drawn = np.flatnonzero(topic == f)
        words[drawn] = rng.choice(n_features, size=len(drawn), p=p)
    ones = np.ones(len(texts), np.int32)
    data = csr_matrix((ones, words, np.r_[0, lengths.cumsum()]), shape=(n_samples, n_features))
    data.sum_duplicates()
    if return_X_y:
        return data, target
    place = np.where(owner >= 0, rank // 2 // n_topics, rank // 2).astype(
        str
    )  # rank within its topic
    prefix = np.where(owner >= 0, np.char.add("t", owner.astype(str)), "")
    return Bunch(
        data=data,
        target=target,
        supports=supports,
        codes=codes,
        dictionary=dictionary,
        language=language,
        feature_names=np.char.add(np.char.add(prefix, "w"), place),
        roles=_roles(n_classes, n_global, n_shared, n_specific),
    )


def _check_factors(
    n_samples: Any,
    n_features: Any,
    n_classes: Any,
    n_global: Any,
    n_shared: Any,
    n_specific: Any,
    classes_per_shared: Any,
) -> None:
    for name, value, least in (
        ("n_samples", n_samples, 1),
        ("n_features", n_features, 1),
        ("n_classes", n_classes, 2),
        ("n_global", n_global, 0),
        ("n_shared", n_shared, 0),
        ("n_specific", n_specific, 0),
        ("classes_per_shared", classes_per_shared, 2),
    ):
        check_scalar(value, name, Integral, min_val=least)


def _roles(n_classes: int, n_global: int, n_shared: int, n_specific: int) -> NDArray[np.str_]:
    return np.repeat(
        ["global", "shared", "class-specific"], [n_global, n_shared, n_classes * n_specific]
    )


def _supports(
    n_classes: int,
    n_global: int,
    n_shared: int,
    n_specific: int,
    classes_per_shared: int,
    rng: RandomState,
) -> NDArray[np.bool_]:
    """Draw which factors each class has, (n_classes, n_factors)."""
    if not n_global + n_shared + n_specific:
        raise ValueError(
            "n_global, n_shared and n_specific are all 0, but at least one must be positive."
        )
    most = ceil(0.9 * n_classes) - 1
    if n_shared and classes_per_shared > most:
        raise ValueError(
            f"classes_per_shared is {classes_per_shared}, but with n_classes={n_classes} a factor "
            f"of more than {most} classes is global: lower it, or set n_shared=0."
        )
    if n_shared > comb(n_classes, classes_per_shared):
        raise ValueError(
            f"n_shared is {n_shared}, but n_classes={n_classes} have only "
            f"{comb(n_classes, classes_per_shared)} sets of {classes_per_shared} classes to share "
            "a factor: lower n_shared, or raise n_classes."
        )
    shared: set[tuple[int, ...]] = set()
    while len(shared) < n_shared:
        shared.add(tuple(sorted(rng.permutation(n_classes)[:classes_per_shared].tolist())))
    supports = np.zeros((n_classes, n_global + n_shared + n_classes * n_specific), dtype=bool)
    supports[:, :n_global] = True
    for f, having in enumerate(sorted(shared), start=n_global):
        supports[list(having), f] = True
    supports[:, n_global + n_shared :] = np.repeat(
        np.eye(n_classes, dtype=bool), n_specific, axis=1
    )
    return supports


def _labels(
    n_samples: int, n_classes: int, weights: ArrayLike | None, rng: RandomState
) -> NDArray[np.intp]:
    w = np.ones(n_classes) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != (n_classes,) or not (np.isfinite(w) & (w > 0)).all():
        raise ValueError(
            f"weights is {brief(weights)}, but must be {n_classes} positive numbers, one for each "
            "class."
        )
    # Evenly spaced quantiles give each class its share of the samples, rounded.
    share = np.cumsum(w) / w.sum()
    target = np.searchsorted(share, (np.arange(n_samples) + 0.5) / n_samples)
    if (n_drawn := len(np.unique(target))) < n_classes:
        raise ValueError(
            f"n_samples is {n_samples}, so few that {n_classes - n_drawn} of the {n_classes} "
            "classes get no sample: raise n_samples, or the smallest weights."
        )
    return rng.permutation(target)


def _disjoint_patterns(n_factors: int, n_features: int, rng: RandomState) -> NDArray[np.float64]:
    if n_features < n_factors:
        raise ValueError(
            f"n_features is {n_features}, but each of the {n_factors} factors needs its own: raise "
            "n_features, or lower the number of factors."
        )
    owner = rng.permutation(n_features) % n_factors
    sign = rng.choice([-1.0, 1.0], size=n_features)
    values = sign * rng.uniform(0.5, 1.5, size=n_features)
    return np.where(owner == np.arange(n_factors)[:, None], values, 0.0)


def _blobs(n_factors: int, image_shape: list[int]) -> NDArray[np.float64]:
    """Return flattened Gaussian bumps on the cells of the smallest square grid that holds them."""
    height, width = image_shape
    n_cells = ceil(n_factors**0.5)
    if min(height, width) < n_cells:
        raise ValueError(
            f"image_shape is {brief(tuple(image_shape))}, but {n_factors} factors need at least "
            f"{n_cells} pixels a side: enlarge it, or lower the number of factors."
        )
    row, column = np.divmod(np.arange(n_factors), n_cells)

    def bump(cell: NDArray[np.intp], n_pixels: int) -> NDArray[np.float64]:
        position = (np.arange(n_pixels) + 0.5) * n_cells / n_pixels  # in cells
        bumps: NDArray[np.float64] = np.exp(-8 * np.square(position - (cell[:, None] + 0.5)))
        return bumps

    # Half brightness, so that few images of codes of mean 1 are clipped.
    blobs = 0.5 * bump(row, height)[:, :, None] * bump(column, width)[:, None, :]
    return blobs.reshape(n_factors, height * width)


def fetch_images(
    name: str = "Fashion-MNIST", *, data_dir: str | PathLike[str] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Load Fashion-MNIST or MNIST with its usual split into training and test data.

    Parameters
    ----------
    name : {"Fashion-MNIST", "mnist_784"}, default="Fashion-MNIST"
        Name of the data set on OpenML.
    data_dir : path-like, default=None
        Directory of the IDX files (``train-images-idx3-ubyte.gz`` and so on), or its parent with
        the files in ``fashion-mnist/`` or ``mnist/``. None downloads the data set by
        :func:`~sklearn.datasets.fetch_openml` and keeps it in scikit-learn's data home.

    Returns
    -------
    X_train, X_test : ndarray of float32 of shape (60000, 784) and (10000, 784)
        Flattened images of 28 x 28 pixels, in [0, 1].
    y_train, y_test : ndarray of int64 of shape (60000,) and (10000,)
        Classes 0 to 9.

    Raises
    ------
    FileNotFoundError
        If a file is missing in `data_dir`.
    ValueError
        If `name` is unknown, or if a file is not a complete IDX file.

    Examples
    --------
    >>> from sklearn_classvsc.datasets import fetch_images
    >>> X_train, X_test, y_train, y_test = fetch_images("mnist_784")  # doctest: +SKIP
    """
    if name not in _FOLDERS:
        raise ValueError(f"name is {brief(name)}, but must be one of {list(_FOLDERS)}.")
    if data_dir is None:
        X, y = fetch_openml(name, version=1, return_X_y=True, as_frame=False)
        arrays: dict[str, NDArray[Any]] = {
            "X_train": X[:60_000],
            "X_test": X[60_000:],
            "y_train": y[:60_000],
            "y_test": y[60_000:],
        }
    else:
        arrays = {
            key: _read_idx(_find(Path(data_dir), _FOLDERS[name], file))
            for key, file in _IDX_FILES.items()
        }
    X_train, X_test = (_pixels(arrays[key]) for key in ("X_train", "X_test"))
    y_train, y_test = (arrays[key].astype(np.int64) for key in ("y_train", "y_test"))
    return X_train, X_test, y_train, y_test


def _pixels(images: NDArray[Any]) -> NDArray[np.float32]:
    pixels: NDArray[np.float32] = images.reshape(len(images), -1).astype(np.float32) / np.float32(
        255
    )
    return pixels


def _find(data_dir: Path, folder: str, file: str) -> Path:
    for path in (data_dir / folder / file, data_dir / file):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"data_dir is {str(data_dir)!r}, but has neither {folder}/{file} nor {file}: name the "
        "folder of the IDX files, or leave it out to download them from OpenML."
    )


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes: two zeros, type 8, rank, big-endian shape, values."""
    with gzip.open(path) as file:
        content = file.read()
    if content[:3] != b"\0\0\x08":
        raise ValueError(
            f"{path} starts with {content[:3]!r}, but IDX bytes start with 0, 0, 8: name another "
            "file."
        )
    start = 4 + 4 * sum(content[3:4])
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    if not shape or len(content) != start + prod(shape):
        raise ValueError(
            f"{path} holds {len(content)} bytes, but its header needs {start} and an array of "
            f"shape {shape}: it is damaged, so download it again."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
