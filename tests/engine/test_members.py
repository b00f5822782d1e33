import numpy as np
import pytest
from numpy.typing import NDArray

from sameitem.core.errors import InputError, ShapeError
from sameitem.engine.members import Members


def ids(*values: int) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize(
    ("entry_image_id", "image_id", "entry", "product", "reason"),
    [
        (ids(1, 2), ids(2, 1), ids(1, 0), ids(0, 0), "sorted by entry"),
        (ids(5), ids(5, 3), ids(0, 0), ids(0, 0), "sorted by entry"),
        (ids(3), ids(3, 3), ids(0, 0), ids(0, 0), "sorted by entry"),
        (ids(3, 4), ids(3, 3), ids(0, 1), ids(0, 0), "once"),
        (ids(3, 4), ids(3, 5), ids(0, 1), ids(0, 0), "among its own members"),
        (ids(3, 4), ids(3), ids(0), ids(0), "among its own members"),
        (ids(3), ids(3, 4), ids(0, 1), ids(0, 0), "entry rows"),
        (ids(3), ids(3), ids(-1), ids(0), "entry rows"),
        (ids(3), ids(3), ids(0), ids(-1), "product rows"),
    ],
)
def test_members_that_contradict_each_other_are_refused(
    entry_image_id: NDArray[np.int64],
    image_id: NDArray[np.int64],
    entry: NDArray[np.int64],
    product: NDArray[np.int64],
    reason: str,
) -> None:
    with pytest.raises(InputError, match=reason):
        Members(entry_image_id, image_id, entry, product.astype(np.int32))


def test_arrays_of_different_length_or_kind_are_refused() -> None:
    with pytest.raises(ShapeError, match="members"):
        Members(ids(3), ids(3), ids(0, 0), ids(0).astype(np.int32))
    with pytest.raises(ShapeError, match="whole numbers"):
        Members(ids(3), np.array([3.0]), ids(0), ids(0).astype(np.int32))  # type: ignore[arg-type]
