"""Files are often sorted by label; what is looked at must not be one class."""

from __future__ import annotations

from softprompt_core.base_model.tokens import TokenizedRow
from softprompt_core.data import spread
from softprompt_core.training import TrainingRows
from softprompt_core.training.rows import VALIDATION_ROWS


def test_checked_rows_are_spread_over_a_sorted_split():
    rows = [TokenizedRow((i,), (i // 1000,)) for i in range(2000)]
    checked = TrainingRows(rows, rows).checked
    assert len(checked) == VALIDATION_ROWS
    assert sum(row.target_ids == (0,) for row in checked) == VALIDATION_ROWS // 2


def test_spread_takes_all_of_few_rows_in_order():
    assert spread([3, 1, 2], 10) == [3, 1, 2] and spread([], 5) == []
    assert len(set(spread(list(range(100)), 7))) == 7
