"""Where rows come from: files, a hub data set, or frames; all are read as ``RawSplit``."""

from softprompt_core.data.sources.loading import load_splits
from softprompt_core.data.sources.parts import Part, RawSplit

__all__ = ["Part", "RawSplit", "load_splits"]
