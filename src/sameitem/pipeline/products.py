"""The products behind a gallery, and their attributes as columns for filters; both take changes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.core.filters import Column, Labels, Numbers, column, is_missing
from sameitem.core.growing import Growing
from sameitem.core.records import Attribute, Product, ProductId

ValueOf = Callable[[Product], Attribute | None]


class ProductTable:
    """Row j is product j of the engine's arrays; rows are added at the end and never taken away."""

    def __init__(self, products: list[Product]) -> None:
        self.rows = products
        self._row_of = {product.product_id: row for row, product in enumerate(products)}
        self._columns: dict[str, tuple[ValueOf, _Kept]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def row_of(self, product_id: ProductId) -> int | None:
        """Return the row of a product; None where the gallery has none of it."""
        return self._row_of.get(product_id)

    def put(self, product: Product) -> int:
        """Add a product or replace what is known of it, and return its row."""
        row = self._row_of.get(product.product_id, len(self.rows))
        if row == len(self.rows):
            self.rows.append(product)
            self._row_of[product.product_id] = row
        else:
            self.rows[row] = product
        self._columns = {
            name: (value_of, kept)
            for name, (value_of, kept) in self._columns.items()
            if kept.put(row, value_of(product))
        }
        return row

    def column(self, name: str, value_of: ValueOf) -> Column:
        """Return one value of every product, missing where nobody said.

        Args:
            name: what it is kept under; always with the same `value_of`.
            value_of: a product's value.
        """
        if name not in self._columns:
            self._columns[name] = (value_of, _Kept(column([value_of(product) for product in self.rows])))
        return self._columns[name][1].column


class _Kept:
    """A column that takes changes."""

    def __init__(self, made: Column) -> None:
        self._is_labels = isinstance(made, Labels)
        self._values: list[Any] = list(made.values) if isinstance(made, Labels) else []
        self._codes: dict[tuple[type, Attribute | None], int] = {
            (type(value), value): code for code, value in enumerate(self._values)
        }
        first: NDArray[Any] = made.codes if isinstance(made, Labels) else made.values
        self._rows: Growing[Any] = Growing.in_memory(first)

    @property
    def column(self) -> Column:
        return Labels(self._rows.more, self._values) if self._is_labels else Numbers(self._rows.more)

    def put(self, row: int, value: Attribute | None) -> bool:
        """Set or add the value of a row; return False where it does not fit, and the column is to be made anew."""
        if self._is_labels:
            key = (type(value), value)
            code: float = -1 if value is None or is_missing(value) else self._codes.setdefault(key, len(self._values))
            if code == len(self._values):
                self._values.append(value)
        elif value is None or is_missing(value):
            code = np.nan
        elif isinstance(value, int | float) and not isinstance(value, bool):
            code = value
        else:
            return False
        if row == len(self._rows):
            self._rows.append(np.array([code], self._rows.first.dtype))
        else:
            self._rows.more[row] = code
        return True


def take(whole: Column, rows: NDArray[np.integer[Any]]) -> Column:
    """Return some rows of a column."""
    if isinstance(whole, Labels):
        return Labels(whole.codes[rows], whole.values)
    return Numbers(whole.values[rows])


def rows_with(labels: Labels, wanted: Sequence[str] | set[str]) -> NDArray[np.bool_]:
    """Return which rows have one of the wanted values; "" stands for a missing one."""
    return np.array([*(value in wanted for value in labels.values), "" in wanted], np.bool_)[labels.codes]
