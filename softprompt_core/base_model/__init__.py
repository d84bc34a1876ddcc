"""The frozen base language model: ``identity`` says which it is, ``loading`` brings it into memory, once for all tasks."""

from typing import TYPE_CHECKING, Any

from softprompt_core.base_model.identity import BaseIdentity, identify, resolve

if TYPE_CHECKING:
    from softprompt_core.base_model.loading import BaseModel, load_base

__all__ = ["BaseIdentity", "BaseModel", "identify", "load_base", "resolve"]


def __getattr__(name: str) -> Any:
    # Loading needs torch, which takes seconds to import; identifying a base, to see whether anything has changed, does not.
    if name not in ("BaseModel", "load_base"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from softprompt_core.base_model import loading

    return getattr(loading, name)
