"""Does a champion still answer as well as at promotion? Tests on new rows, and what is kept of the training to compare with."""

from softprompt_core.monitoring.drift import drift_checks
from softprompt_core.monitoring.health import HealthCheck, Verdict, conclude
from softprompt_core.monitoring.profile import InputProfile, make_profile
from softprompt_core.monitoring.quality import quality_check

__all__ = ["HealthCheck", "InputProfile", "Verdict", "conclude", "drift_checks", "make_profile", "quality_check"]
