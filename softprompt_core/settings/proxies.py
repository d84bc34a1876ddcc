"""Proxies of the environment, as the libraries that talk to servers read them."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from urllib.parse import urlsplit

_HERE = ("127.0.0.1", "localhost", "::1")
_NAMES = ("http_proxy", "https_proxy", "all_proxy")
_SCHEMES = ("http", "https")
_SOCKS = ("socks5", "socks5h")


def settle_proxies() -> None:
    """Servers on this machine are asked directly; a proxy that cannot be used is left out, which is told.

    httpx, which Prefect asks its server with, fails at every request where it finds such a proxy, even one to this machine.
    """
    for name in _NAMES:
        for variable in (name, name.upper()):
            if (proxy := os.environ.get(variable)) and (problem := _problem(proxy)):
                del os.environ[variable]
                print(f"{variable} is left out: {problem}", file=sys.stderr, flush=True)
    if not any(os.environ.get(variable) for name in _NAMES for variable in (name, name.upper())):
        return
    for variable in ("no_proxy", "NO_PROXY"):  # the first of the two that is set counts, and libraries differ in which it is
        hosts = [host.strip() for host in os.environ.get(variable, "").split(",") if host.strip()]
        os.environ[variable] = ",".join([*hosts, *(host for host in _HERE if host not in hosts)])


def _problem(proxy: str) -> str | None:
    """Why a proxy cannot be used."""
    scheme = urlsplit(proxy if "://" in proxy else f"http://{proxy}").scheme
    if scheme in _SCHEMES or (scheme in _SOCKS and find_spec("socksio")):
        return None
    if scheme in _SOCKS:
        return f"{scheme}:// needs the package socksio (pip install 'httpx[socks]')"
    return f"{scheme}:// is no kind of proxy that can be used here"
