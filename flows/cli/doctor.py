"""Commands about this machine: ``doctor``, ``ui``; and ``schema``."""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import replace
from typing import Annotated

import typer

from flows.cli.options import Json


def ui(
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 5000,
    json: Json = False,
) -> None:
    """Serve the MLflow pages of the local record until interrupted; with a tracking server, say where its pages are."""
    from flows.cli.output import print_json
    from softprompt_core.store.addresses import Addresses
    from softprompt_core.store.connection import Store

    addresses = Addresses.from_settings()
    remote = addresses.tracking_uri.startswith("http")
    pages = addresses if remote else replace(addresses, tracking_uri=f"http://127.0.0.1:{port}")
    page = pages.page("experiments")
    if json:
        print_json(dict(address=page, tracking_uri=addresses.masked_tracking_uri, serving=not remote))
    else:
        print(f"MLflow pages: {page}" + ("" if remote else "  (Ctrl-C ends)"), flush=True)
    if remote:
        return
    Store.connect()  # makes the tables of a fresh database, and complains here rather than in a server log
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # The address may hold a password, and everybody on this machine can read the arguments of a process.
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": addresses.tracking_uri}
    command += ["--serve-artifacts", "--artifacts-destination", addresses.artifact_root or ""]
    os.execve(sys.executable, command, environment)


def doctor(
    repair: Annotated[
        bool,
        typer.Option("--repair", help="First settle what the dead left: decisions, runs, metrics, half-made versions."),
    ] = False,
    json: Json = False,
) -> None:
    """Check versions, stores, base model and disk; say what to do about each finding.

    Exits 0 and says `ok` if there is nothing to look at, else 50.
    """
    from flows.cli.output import print_json, print_table
    from flows.doctor import checks

    findings = [*(checks.repair() if repair else []), *checks.examine()]
    if json:
        print_json([finding.model_dump(mode="json") for finding in findings])
    else:
        marks = {"ok": "✓", "warning": "!", "problem": "✗"}
        print_table(("", "what", "found"), [(marks[f.status], f.what, f.found) for f in findings])
        for finding in findings:
            if finding.do:
                print(f"{marks[finding.status]} {finding.what}: {finding.do}")
    found = Counter(finding.status for finding in findings)
    if not json:
        counts = [f"{found[kind]} {kind}{'s' if found[kind] > 1 else ''}" for kind in ("problem", "warning") if found[kind]]
        print(", ".join(counts) or "ok")
    if found["problem"] or found["warning"]:
        raise typer.Exit(50)


def schema(json: Json = True) -> None:
    """Print the JSON Schema of a spec, for editors and checks."""
    from flows.cli.output import print_json
    from softprompt_core.spec import json_schema

    print_json(json_schema())
