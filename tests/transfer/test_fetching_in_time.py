"""Reading from another environment has a time limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from softprompt_core.errors import Unavailable
from softprompt_core.transfer import fetch


def test_reading_from_another_place_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_TIME_S", 0.01)
    monkeypatch.setattr(fetch, "_TIME_A_VERSION_S", 0.0)
    with pytest.raises(Unavailable, match=r"took longer than .* and was ended") as caught:
        fetch.fetch_all("solo", [("toy", "champion")], tmp_path)
    assert caught.value.where == "profile solo"
