"""The frozen base language model: ``identity`` says which it is, ``loading`` brings it into memory, once for all tasks."""

from softprompt_core.base_model.identity import BaseIdentity, identify, resolve
from softprompt_core.base_model.loading import BaseModel, load_base

__all__ = ["BaseIdentity", "BaseModel", "identify", "load_base", "resolve"]
