"""A loaded tiny base."""

from __future__ import annotations

import pytest

from softprompt_core.base_model.loading import BaseModel, load_base
from softprompt_core.spec import BaseModelSpec
from tests.tiny_models import save_tiny


@pytest.fixture(scope="package")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return load_base(BaseModelSpec(id=str(save_tiny(tmp_path_factory.mktemp("tiny") / "llama", "llama")), device="cpu"))
