"""Rows in, ``TaskData`` out: load → validate → split → template → report.

The way of a row: ``sources`` reads the columns that a spec uses; ``rows`` renders templates and labels and sets bad rows aside;
``validation`` refuses data as a whole; ``overlap`` removes rows that would leak; ``splits`` makes splits that the source lacks;
``slices`` marks subsets; ``reporting`` makes the ``report``; ``preparation`` runs it all.
"""

from softprompt_core.data.changes import DataChanges, SplitChange, data_changes, row_hashes
from softprompt_core.data.new_data import NewRows, load_new_rows
from softprompt_core.data.preparation import prepare
from softprompt_core.data.report import BadRow, DataReport, Leak, RepeatedInput, SplitReport, TokenLengths
from softprompt_core.data.report_page import report_markdown
from softprompt_core.data.sources import frame_cells, plain_cells
from softprompt_core.data.storage import load_task_data, save_task_data, share_task_data
from softprompt_core.data.task_data import SPLITS, Example, TaskData, spread
from softprompt_core.data.templates import cell_problem, render

__all__ = [
    "SPLITS",
    "BadRow",
    "DataChanges",
    "DataReport",
    "Example",
    "Leak",
    "NewRows",
    "RepeatedInput",
    "SplitChange",
    "SplitReport",
    "TaskData",
    "TokenLengths",
    "cell_problem",
    "data_changes",
    "frame_cells",
    "load_new_rows",
    "load_task_data",
    "plain_cells",
    "prepare",
    "render",
    "report_markdown",
    "row_hashes",
    "save_task_data",
    "share_task_data",
    "spread",
]
