"""Leaves kept in batches come back one by one, whatever their order."""

import numpy as np
import pytest

from bvverify.search.leaves import Leaves


def batch(first: int, count: int) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    numbers = np.arange(first, first + count)
    return numbers[:, None] * 10 + np.arange(2), {3: (numbers[:, None] * 100 + np.arange(4)).astype(np.int32)}


def made(*sizes: int) -> Leaves:
    leaves = Leaves()
    for size in sizes:
        leaves.add(*batch(leaves.count, size))
    return leaves


def test_a_batch_gets_the_next_numbers() -> None:
    leaves = made(3)
    assert leaves.add(*batch(3, 2)) == range(3, 5)
    assert leaves.add(*batch(5, 0)) == range(5, 5)
    assert leaves.count == 5


@pytest.mark.parametrize("numbers", [[0], [6], [2, 3], [6, 0, 4, 4, 1], [5, 2], list(range(7))[::-1]])
def test_leaves_come_back_in_the_order_asked(numbers: list[int]) -> None:
    weights, multipliers = made(3, 0, 2, 2).at(numbers)
    assert weights.tolist() == [[10 * k, 10 * k + 1] for k in numbers]
    assert multipliers[3].tolist() == [[100 * k + j for j in range(4)] for k in numbers]
    assert multipliers[3].dtype == np.int32


def test_those_of_another_search_are_numbered_on() -> None:
    leaves, other = made(2, 1), Leaves()
    other.add(*batch(3, 2))
    other.add(*batch(5, 1))
    assert leaves.extend(other) == 3
    assert leaves.count == 6
    assert leaves.at([5, 2, 3])[0].tolist() == [[50, 51], [20, 21], [30, 31]]
