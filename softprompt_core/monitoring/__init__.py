"""Does a champion still hold its ground? Tests on fresh rows, and what is kept of the training to compare them with."""

from softprompt_core.monitoring.health import Finding, Verdict, conclude
from softprompt_core.monitoring.profile import InputProfile, make_profile
from softprompt_core.monitoring.quality import quality
from softprompt_core.monitoring.shift import shifts

__all__ = ["Finding", "InputProfile", "Verdict", "conclude", "make_profile", "quality", "shifts"]
