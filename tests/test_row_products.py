"""Products of rows that do not depend on how many rows there are."""

import numpy as np
import pytest

from zeroshot.arrays import rows_times

SHAPES = [(1280, 300), (1580, 20), (1580, 2), (458, 3), (12, 5), (1, 1)]


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("n", [1, 2, 7, 33, 700])
def test_row_of_a_product_is_the_same_bits_among_any_others(n, shape, random):
    X = random.standard_normal((900, shape[0])).astype(np.float32)
    matrix = random.standard_normal(shape).astype(np.float32)
    whole = rows_times(X, matrix)
    np.testing.assert_array_equal(rows_times(X[:n], matrix), whole[:n])
    np.testing.assert_array_equal(rows_times(X[100 : 100 + n], matrix), whole[100:][:n])
    exact = X[:n].astype(np.float64) @ matrix
    np.testing.assert_allclose(whole[:n], exact, atol=1e-3)


@pytest.mark.parametrize("n", [0, 1, 50])
def test_product_is_written_where_it_is_asked_for(n, random):
    X = random.standard_normal((n, 30)).astype(np.float32)
    matrix = random.standard_normal((8, 30)).astype(np.float32).T
    out = np.full((60, 10), 7, np.float32)
    rows_times(X, matrix, out=out[:n, :8])
    np.testing.assert_array_equal(out[:n, :8], rows_times(X, matrix))
    assert (out[n:] == 7).all()
    assert (out[:, 8:] == 7).all()


def test_product_with_nothing_is_nothing():
    assert (
        rows_times(np.ones((3, 4), np.float32), np.ones((4, 0), np.float32)).size == 0
    )
    assert (
        rows_times(np.ones((3, 0), np.float32), np.ones((0, 2), np.float32)).sum() == 0
    )
