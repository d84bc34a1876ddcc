"""Passwords and tokens leave no process: in addresses, parameters, settings, headers, and in the texts of any error."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flows.doctor.findings import problem
from softprompt_core.errors import Outcome, Unavailable
from softprompt_core.lifecycle.result import LifecycleResult
from softprompt_core.lifecycle.run import outcome_of
from softprompt_core.masking import mask, masked
from softprompt_core.store.addresses import Addresses

# A secret that cannot stand in a text by chance; characters of addresses are among it.
SECRETS = st.text(string.ascii_letters + string.digits + "/:@?#&=+%!$*'()[];,~", min_size=1, max_size=20).map(
    lambda text: f"Geh{text}eim"
)
PLAIN = st.text(string.ascii_letters + string.digits + "-._~", min_size=8, max_size=30).map(lambda text: f"Geh{text}eim")
NAMES = st.text(string.ascii_lowercase + string.digits + "-_.", min_size=1, max_size=10)
SCHEMES = st.sampled_from("http https postgresql postgresql+psycopg mysql+pymysql redis amqp socks5 git+https s3".split())
HOSTS = st.sampled_from("host db.example:5432 127.0.0.1:5000 [::1]:8080 localhost".split())
PARAMETERS = st.sampled_from(
    "token access_token password sslpassword api_key apikey X-Amz-Signature X-Amz-Security-Token sig client_secret auth".split()
)
TEXTS = st.text(string.ascii_letters + " .:", max_size=20)


@settings(derandomize=True, deadline=None)
@given(TEXTS, SCHEMES, NAMES, SECRETS, HOSTS, TEXTS)
@example("", "postgresql", "u", "p/w", "host", "")
@example("http://127.0.0.1:5000/api,", "https", "u", "p@w", "host", "")
def test_the_password_of_an_address_is_never_shown(
    before: str, scheme: str, user: str, password: str, host: str, after: str
) -> None:
    shown = masked(f"{before}{scheme}://{user}:{password}@{host}/path {after}")
    assert password not in shown and shown.endswith(f"{host}/path {after}")


@settings(derandomize=True, deadline=None)
@given(st.sampled_from(["http", "https", "git+https"]), PLAIN, HOSTS, st.sampled_from(["", ":", ":x-oauth-basic"]))
def test_a_token_in_place_of_a_name_is_never_shown(scheme: str, token: str, host: str, password: str) -> None:
    assert masked(f"cannot clone {scheme}://{token}{password}@{host}/x") == f"cannot clone {scheme}://***@{host}/x"


@settings(derandomize=True, deadline=None)
@given(SCHEMES, HOSTS, PARAMETERS, PLAIN, st.sampled_from(["?", "?a=b&"]), st.sampled_from(["", "&c=d", "#part", " and more"]))
def test_a_secret_parameter_is_never_shown(scheme: str, host: str, name: str, secret: str, before: str, after: str) -> None:
    assert masked(f"{scheme}://{host}/x{before}{name}={secret}{after}") == f"{scheme}://{host}/x{before}{name}=***{after}"


@pytest.mark.parametrize(
    "text",
    [
        "host=db password=Geheimnis user=me",
        "connection to password='Geheimnis und mehr' failed",
        "{'Authorization': 'Bearer Geheimnis.abc-def'}",
        "Authorization: Basic R2VoZWltbmlz",
        "the key pnu_Geheimnis1234 is not known",
        "hf_Geheimnis1234567890 has no access",
        "https://hooks.slack.com/services/T0/B0/Geheimnis",
        "AWS_SECRET_ACCESS_KEY=Geheimnis",
    ],
)
def test_other_secrets_are_never_shown(text: str) -> None:
    assert "Geheimnis" not in masked(text) and "R2VoZWltbmlz" not in masked(text) and "***" in masked(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/#/models/toy/versions/1",
        "http://localhost:5000/#/models/toy@champion",
        "https://huggingface.co/org/name@0123abc",
        "models:/toy@champion",
        "postgresql+psycopg://me@db/mlflow",
        "sqlite:////home/me/mlflow.db",
        "eos_token=</s>, pad_token=<pad>; 12:30; a@b.example",
        "file:///tmp/home/artifacts",
        "s3://bucket/key",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text


@settings(derandomize=True, deadline=None)
@given(SECRETS)
def test_no_text_of_an_error_shows_a_password(password: str) -> None:
    address = f"postgresql://me:{password}@db/x"
    assert password not in str(Unavailable(f"cannot reach {address}", where=address, do=f"look at {address}"))
    result = LifecycleResult(task="toy", outcome=Outcome.UNAVAILABLE, reason=f"KeyError: {address}")
    assert password not in result.model_dump_json()
    error = RuntimeError(f"inner {address}")
    error.__cause__ = ValueError(address)
    mask(error)
    assert password not in str(error) and password not in str(error.__cause__)


def test_links_and_findings_show_no_password() -> None:
    addresses = Addresses("https://me:Geh/eim@mlflow.example/base?token=Geheim", None, None, Path("/tmp"))
    assert addresses.ui == "https://mlflow.example/base?token=***"
    assert Addresses("http://127.0.0.1:5000/", None, None, Path("/tmp")).ui == "http://127.0.0.1:5000"
    finding = problem("prefect", "http://me:Geheim@host/api does not answer", "look at http://me:Geheim@host/api")
    assert "Geheim" not in finding.model_dump_json()
    result = LifecycleResult(task="t", outcome=Outcome.PROMOTED, reason="", prefect_url="http://me:Geheim@host/runs/1")
    assert "Geheim" not in result.model_dump_json()


def test_an_error_that_nobody_foresaw_shows_no_password_in_outcome_and_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise KeyError("https://Geheimnis1234@host/x?token=Geheimnis1234")
    except KeyError as error:
        outcome, reason = outcome_of(error)
    shown = capsys.readouterr().err
    assert outcome is Outcome.UNAVAILABLE and "KeyError" in reason and "Traceback" in shown
    assert "Geheimnis" not in reason + shown
