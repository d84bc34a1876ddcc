"""Which errors around MLflow may pass, and how a user is told of those that do not."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, PERMISSION_DENIED, TEMPORARILY_UNAVAILABLE

from softprompt_core.store import run_contents, runs
from softprompt_core.store.addresses import Addresses
from softprompt_core.store.connection import Store
from softprompt_core.store.failures import is_transient, unavailable


def answered(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status} Client Error", response=response)


def raised(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


SEVERAL = "The following failures occurred while downloading one or more artifacts from s3://b/m:\n##### File MLmodel #####\n"


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (MlflowException("a mistake that nobody gave a code"), False),
        (raised(MlflowException("API request failed"), requests.ConnectionError("refused")), True),
        (raised(MlflowException("no"), MlflowException("broken", TEMPORARILY_UNAVAILABLE)), True),
        (RestException({"error_code": "INTERNAL_ERROR", "message": "the database is away"}), True),
        (RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no run"}), False),
        (MlflowException("bad", BAD_REQUEST), False),
        (MlflowException(f"{SEVERAL}404 Client Error: NOT FOUND for url"), False),
        (MlflowException(f"{SEVERAL}HTTPConnectionPool: Max retries exceeded"), True),
        (answered(404), False),
        (answered(403), False),
        (answered(429), True),
        (answered(503), True),
        (requests.ConnectionError("refused"), True),
    ],
)
def test_only_what_may_pass_counts_as_an_outage(error: Exception, passes: bool) -> None:
    assert is_transient(error) is passes


def test_what_waiting_does_not_help_against_is_told_in_words(tmp_path: Path) -> None:
    addresses = Addresses("http://user:secret@mlflow", None, None, tmp_path)
    read_only = unavailable(raised(MlflowException("x"), OSError(errno.EROFS, "Read-only file system", "/mnt/a")), addresses)
    assert read_only is not None and str(read_only).startswith(
        "/mnt/a: cannot be written: Read-only file system\n  → make it writable"
    )
    denied = unavailable(MlflowException("no", PERMISSION_DENIED), addresses)
    assert denied is not None and "refuses this user" in str(denied) and "secret" not in str(denied)
    gone = unavailable(MlflowException(f"{SEVERAL}404 Client Error: NOT FOUND for url"), addresses)
    assert gone is not None and "files cannot be read: 404 Client Error" in str(gone)
    assert unavailable(MlflowException("a mistake that nobody gave a code"), addresses) is None
    assert unavailable(ValueError("a bug"), addresses) is None


def test_artifacts_that_cannot_be_written_are_told_in_words(store: Store, name: str, tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("")
    addresses = replace(store.addresses, artifact_root=(tmp_path / "a file" / "below").as_uri())
    blocked = Store(addresses, store.client)
    with pytest.raises(OSError) as caught:
        run_contents.log_text(blocked, runs.start_run(blocked, runs.experiment_id(blocked, name), "a run", {}), "text", "a.txt")
    told = unavailable(caught.value, addresses)
    assert told is not None and "cannot be written: Not a directory" in str(told) and "make it writable" in str(told)
