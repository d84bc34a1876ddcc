"""Where rows come from: files, a hub data set, or frames; all are read as ``RawSplit``."""

from softprompt_core.data.sources.frames import frame_cells
from softprompt_core.data.sources.loading import load_splits
from softprompt_core.data.sources.parts import Part, RawSplit, plain_cells

__all__ = ["Part", "RawSplit", "frame_cells", "load_splits", "plain_cells"]
