"""Specification of sklearn_classvsc.datasets."""

import gzip

import numpy as np
import pytest

from sklearn_classvsc import datasets
from sklearn_classvsc.datasets import fetch_images, make_class_factors, make_class_topics
from sklearn_classvsc.metrics import class_consistency_score, dimension_roles

# make_class_factors ----------------------------------------------------------------------------


def test_shapes_and_order_of_factors():
    factors = make_class_factors(
        200, 40, n_classes=4, n_global=1, n_shared=2, n_specific=3, random_state=0
    )
    assert factors.data.shape == (200, 40)
    assert factors.target.shape == (200,)
    assert factors.supports.shape == (4, 15)
    assert factors.supports.dtype == bool
    assert factors.codes.shape == (200, 15)
    assert factors.dictionary.shape == (15, 40)
    assert factors.roles.tolist() == ["global"] + ["shared"] * 2 + ["class-specific"] * 12
    np.testing.assert_array_equal(np.unique(factors.target), np.arange(4))


def test_the_same_seed_gives_the_same_data_and_leaves_the_global_state_alone():
    state = np.random.get_state()[1].copy()
    first, again = (make_class_factors(random_state=3) for _ in range(2))
    for key in first:
        np.testing.assert_array_equal(first[key], again[key])
    assert not np.array_equal(make_class_factors(random_state=4).data, first.data)
    X, y = make_class_factors(random_state=3, return_X_y=True)
    np.testing.assert_array_equal(X, first.data)
    np.testing.assert_array_equal(y, first.target)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("n_classes", [3, 5, 20])
def test_the_codes_have_the_roles_and_supports_they_should(n_classes):
    factors = make_class_factors(
        100 * n_classes, 100, n_classes=n_classes, activity=0.8, random_state=0
    )
    found = dimension_roles(factors.codes, factors.target)
    np.testing.assert_array_equal(found["role"], factors.roles)
    for classes, having in zip(found["classes"], factors.supports.T, strict=True):
        np.testing.assert_array_equal(classes, np.flatnonzero(having))


def test_samples_of_several_classes_have_the_factors_of_all():
    factors = make_class_factors(4000, n_labels=2.5, n_classes=6, random_state=0)
    Y = factors.target
    assert Y.shape == (4000, 6) and set(np.unique(Y)) == {0, 1}
    assert Y.sum(axis=1).min() == 1 and Y.sum(axis=1).mean() == pytest.approx(2.5, abs=0.05)
    np.testing.assert_array_equal(factors.codes != 0, (Y @ factors.supports) > 0)


def test_shared_factors_have_different_sets_of_classes():
    supports = make_class_factors(n_shared=10, n_classes=5, random_state=0).supports
    shared = supports[:, 2:12]
    np.testing.assert_array_equal(shared.sum(axis=0), 2)
    assert len(np.unique(shared, axis=1).T) == 10


def test_codes_are_positive_on_the_support_and_zero_elsewhere():
    factors = make_class_factors(5000, random_state=0)
    on = factors.supports[factors.target]
    np.testing.assert_array_equal(factors.codes > 0, on)
    np.testing.assert_array_equal(factors.codes[~on], 0)
    assert factors.codes[on].mean() == pytest.approx(1, abs=0.02)
    assert factors.codes[on].std() == pytest.approx(0.5, abs=0.02)


def test_data_are_decoded_codes_plus_noise():
    exact = make_class_factors(noise=0, random_state=0)
    np.testing.assert_allclose(exact.data, exact.codes @ exact.dictionary)
    codes = np.linalg.lstsq(exact.dictionary.T, exact.data.T)[0].T  # the patterns tell all codes
    np.testing.assert_allclose(codes, exact.codes, atol=1e-12)
    noisy = make_class_factors(noise=0.3, random_state=0)
    assert (noisy.data - noisy.codes @ noisy.dictionary).std() == pytest.approx(0.3, rel=0.02)


def test_each_factor_of_a_table_has_features_of_its_own():
    dictionary = make_class_factors(n_features=23, random_state=0).dictionary
    owners = (dictionary != 0).sum(axis=0)
    np.testing.assert_array_equal(owners, 1)
    assert set((dictionary != 0).sum(axis=1)) == {2, 3}  # 23 features, 10 factors
    assert np.abs(dictionary[dictionary != 0]).min() >= 0.5
    assert np.abs(dictionary).max() <= 1.5


@pytest.mark.parametrize("activity", [0.5, 0.9, 1.0])
def test_activity_is_the_consistency_of_the_codes(activity):
    factors = make_class_factors(5000, activity=activity, random_state=0)
    consistency = class_consistency_score(factors.codes, factors.target)
    assert consistency == pytest.approx(activity, abs=0.01)


def test_class_sizes_follow_the_weights():
    target = make_class_factors(101, n_classes=4, random_state=0).target
    assert sorted(np.bincount(target)) == [25, 25, 25, 26]
    target = make_class_factors(1000, n_classes=3, weights=[6, 3, 1], random_state=0).target
    np.testing.assert_array_equal(np.bincount(target), [600, 300, 100])


def test_images_are_blobs_that_hardly_overlap():
    factors = make_class_factors(500, image_shape=(16, 24), random_state=0)
    assert factors.data.shape == (500, 384)
    assert factors.data.min() == 0
    assert factors.data.max() <= 1
    assert (factors.data == 1).mean() < 0.01
    norms = np.linalg.norm(factors.dictionary, axis=1)
    cosine = factors.dictionary @ factors.dictionary.T / np.outer(norms, norms)
    assert cosine[~np.eye(len(cosine), dtype=bool)].max() < 0.05


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_samples": 0}, "n_samples == 0, must be >= 1"),
        ({"n_classes": 1}, "n_classes == 1, must be >= 2"),
        ({"activity": 0.0}, "activity == 0.0, must be > 0"),
        ({"noise": -1.0}, "noise == -1.0, must be >= 0"),
        ({"n_features": 9}, "n_features is 9, but each of the 10 factors"),
        ({"n_global": 0, "n_shared": 0, "n_specific": 0}, "are all 0"),
        ({"classes_per_shared": 5}, "classes_per_shared is 5, but with n_classes=5"),
        ({"n_classes": 2}, "classes_per_shared is 2, but with n_classes=2"),
        ({"n_shared": 11}, "n_shared is 11, but n_classes=5 have only 10 sets of 2"),
        ({"weights": [1, 2]}, r"weights is \[1, 2\], but must be 5 positive numbers"),
        ({"weights": [1, 1, 1, 1, 0]}, "must be 5 positive numbers"),
        ({"n_samples": 3}, "n_samples is 3, so few that 2 of the 5 classes"),
        ({"image_shape": (3, 3)}, r"image_shape is \(3, 3\), but 10 factors need at least 4"),
    ],
)
def test_parameters_out_of_range_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        make_class_factors(**params)


# make_class_topics -----------------------------------------------------------------------------


def owners(topics):
    """Return the topic of each word, -1 for none."""
    owned = topics.dictionary > 0
    assert owned.sum(axis=0).max() == 1
    return np.where(owned.any(axis=0), owned.argmax(axis=0), -1)


def test_topics_have_the_shapes_of_factors():
    topics = make_class_topics(300, 500, n_classes=4, n_global=1, n_shared=2, random_state=0)
    assert (topics.data.shape, topics.data.format, topics.data.dtype) == ((300, 500), "csr", "i4")
    assert topics.data.has_canonical_format
    assert topics.target.shape == (300,)
    assert topics.supports.shape == (4, 7)
    assert topics.codes.shape == (300, 7)
    assert topics.language.shape == topics.feature_names.shape == (500,)
    assert topics.dictionary.shape == (7, 500)
    assert topics.roles.tolist() == ["global"] + ["shared"] * 2 + ["class-specific"] * 4
    np.testing.assert_array_equal(topics.codes > 0, topics.supports[topics.target])


def test_the_same_seed_gives_the_same_texts_and_leaves_the_global_state_alone():
    state = np.random.get_state()[1].copy()
    first, again = (make_class_topics(200, random_state=3) for _ in range(2))
    assert (first.data != again.data).nnz == 0
    assert (make_class_topics(200, random_state=4).data != first.data).nnz > 0
    X, y = make_class_topics(200, random_state=3, return_X_y=True)
    assert (X != first.data).nnz == 0
    np.testing.assert_array_equal(y, first.target)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_lengths_have_the_mean_and_spread_they_should():
    lengths = make_class_topics(5000, length=80, random_state=0).data.sum(axis=1).A1
    assert lengths.min() >= 1
    assert lengths.mean() == pytest.approx(80, rel=0.03)
    assert lengths.std() == pytest.approx(40, rel=0.1)


def test_the_language_follows_zipf():
    topics = make_class_topics(5000, 1000, background=0.9, n_global=0, random_state=0)
    total = topics.data.sum(axis=0).A1
    common = topics.feature_names == "w0", topics.feature_names == "w4"  # of ranks 2 and 10
    assert owners(topics)[common[0]] == -1
    np.testing.assert_allclose(topics.language.sum(), 1)
    np.testing.assert_allclose(topics.dictionary.sum(axis=1), 1)
    assert total[common[0]] / total[common[1]] == pytest.approx(5, rel=0.1)


def test_words_of_a_topic_come_in_its_texts_alone_but_for_the_background():
    topics = make_class_topics(2000, 500, background=0.0, activity=0.7, random_state=0)
    of_topic = np.column_stack(
        [topics.data[:, owners(topics) == f].sum(axis=1) for f in range(len(topics.roles))]
    )
    active = topics.codes > 0
    assert of_topic[~active & active.any(axis=1, keepdims=True)].sum() == 0
    words = topics.data.sum(axis=1).A1
    shares = topics.codes / np.maximum(topics.codes.sum(axis=1, keepdims=True), 1e-300)
    texts = active.any(axis=1)
    deviation = np.asarray(of_topic)[texts] - (shares * words[:, None])[texts]
    assert abs(deviation.mean(axis=0)).max() < 0.3


def test_every_topic_has_words_and_their_names_say_so():
    topics = make_class_topics(50, 101, random_state=0)
    n_topics = len(topics.roles)
    assert len(set(topics.feature_names)) == 101
    np.testing.assert_array_equal(np.unique(owners(topics)), np.arange(-1, n_topics))
    for name, owner in zip(topics.feature_names, owners(topics), strict=True):
        assert name.startswith("w" if owner < 0 else f"t{owner}w")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_features": 19}, "n_features is 19.*10 topics"),
        ({"background": 1.0}, "background"),
        ({"length": 0.5}, "length"),
        ({"activity": 0}, "activity"),
        ({"n_classes": 1}, "n_classes"),
        ({"n_shared": 99}, "n_shared is 99"),
        ({"weights": [1, 2]}, "weights"),
    ],
)
def test_topics_that_cannot_be_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        make_class_topics(**changes)


# fetch_images ----------------------------------------------------------------------------------

FILES = {
    "train-images-idx3-ubyte.gz": (3, 28, 28),
    "train-labels-idx1-ubyte.gz": (3,),
    "t10k-images-idx3-ubyte.gz": (2, 28, 28),
    "t10k-labels-idx1-ubyte.gz": (2,),
}


@pytest.fixture
def idx_arrays():
    rng = np.random.default_rng(0)
    return {
        file: rng.integers(0, 256 if len(shape) == 3 else 10, size=shape, dtype=np.uint8)
        for file, shape in FILES.items()
    }


def write_idx(folder, arrays):
    folder.mkdir(exist_ok=True)
    for file, array in arrays.items():
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
        (folder / file).write_bytes(gzip.compress(header + array.tobytes()))


@pytest.mark.parametrize(
    ("name", "folder"),
    [("Fashion-MNIST", "fashion-mnist"), ("mnist_784", "mnist"), ("mnist_784", ".")],
)
def test_images_are_read_from_idx_files(tmp_path, idx_arrays, name, folder):
    write_idx(tmp_path / folder, idx_arrays)
    X_train, X_test, y_train, y_test = fetch_images(name, data_dir=str(tmp_path))
    for X, file in ((X_train, "train"), (X_test, "t10k")):
        pixels = idx_arrays[f"{file}-images-idx3-ubyte.gz"]
        assert X.dtype == np.float32
        np.testing.assert_array_equal(X, pixels.reshape(len(pixels), 784) / np.float32(255))
        assert 0 <= X.min() <= X.max() <= 1
    for y, file in ((y_train, "train"), (y_test, "t10k")):
        assert y.dtype == np.int64
        np.testing.assert_array_equal(y, idx_arrays[f"{file}-labels-idx1-ubyte.gz"])


def test_images_come_from_openml_by_default(monkeypatch):
    def fetch_openml(name, **kwargs):
        assert name == "mnist_784"
        X = np.broadcast_to(np.array([[0.0, 51.0, 255.0]]), (70_000, 3))
        return X, np.repeat(["3", "8"], [60_000, 10_000]).astype(object)

    monkeypatch.setattr(datasets, "fetch_openml", fetch_openml)
    X_train, X_test, y_train, y_test = fetch_images("mnist_784")
    assert X_train.shape == (60_000, 3)
    assert X_test.shape == (10_000, 3)
    assert X_train.dtype == np.float32
    np.testing.assert_array_equal(X_test[0], np.array([0, 0.2, 1], dtype=np.float32))
    assert y_train.dtype == y_test.dtype == np.int64
    assert set(y_train) == {3}
    assert set(y_test) == {8}


def test_unknown_sets_and_missing_files_are_named(tmp_path, idx_arrays):
    with pytest.raises(ValueError, match="name is 'cifar', but must be one of"):
        fetch_images("cifar")
    del idx_arrays["t10k-labels-idx1-ubyte.gz"]
    write_idx(tmp_path / "mnist", idx_arrays)
    with pytest.raises(FileNotFoundError, match=r"neither mnist.t10k-labels-idx1-ubyte.gz nor"):
        fetch_images("mnist_784", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00\x00\x0d\x01\x00\x00\x00\x00", "IDX bytes start with 0, 0, 8"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x03ab", r"holds 10 bytes, but .* shape \[3\]"),
        (b"", "IDX bytes start with"),
        (b"\x00\x00\x08", "damaged"),
        (b"\x00\x00\x08\x03\x00\x00\x00\x02", "damaged"),
    ],
)
def test_damaged_files_are_named(tmp_path, idx_arrays, content, message):
    write_idx(tmp_path, idx_arrays)
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match=message) as error:
        fetch_images("mnist_784", data_dir=tmp_path)
    assert path.name in str(error.value)


@pytest.mark.parametrize("image_shape", [(8,), (8, 8, 3), (8, 8.0), (-8, 8), "88", 8])
def test_an_image_shape_that_is_none_is_refused(image_shape):
    with pytest.raises(ValueError, match=r"image_shape is .*, but must be \(height, width\)"):
        make_class_factors(20, image_shape=image_shape)
