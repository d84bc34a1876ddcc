"""``ray start`` on this machine: one node with one core, the head of a cluster or another node of it."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import psutil

from tests.services.service import Service


class RayNode(Service):
    """``folder`` should have a short path: a head keeps sockets below it, whose paths have a limit.

    Args:
        head: None makes this node the head of a new cluster, with a token of its own (``secret``, for drivers' environment).
    """

    def __init__(self, folder: Path, head: RayNode | None = None) -> None:
        super().__init__(folder)
        self.head = head
        self.address = head.address if head else f"127.0.0.1:{self.port}"
        token = folder / "token"
        if head is None:
            token.write_text(secrets.token_hex(32))
        self.secret: dict[str, str] = (
            head.secret if head else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_ADDRESS": self.address}
        )

    def _command(self) -> list[str]:
        of_head = ["--head", "--port", str(self.port), "--temp-dir", str(self.folder / "s"), "--include-dashboard", "false"]
        joining = ["--address", self.address, "--dashboard-agent-listen-port", "0"]
        common = ["--block", "--num-cpus", "1", "--num-gpus", "0", "--object-store-memory", "80000000"]
        ports = ["--node-ip-address", "127.0.0.1", "--min-worker-port", "0", "--max-worker-port", "0"]
        node = of_head if self.head is None else joining
        return [sys.executable, "-m", "ray.scripts.scripts", "start", *node, *common, *ports]

    def _environment(self) -> dict[str, str]:
        auth = {name: value for name, value in self.secret.items() if name != "RAY_ADDRESS"}
        return {**auth, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(Path(__file__).parents[2])}

    def _answers(self) -> bool:
        return "Ray runtime started" in self.log.read_text(errors="replace")

    def holds(self, pid: int) -> bool:
        """Whether a process of this machine belongs to this node."""
        process = psutil.Process(pid)
        return self._process is not None and self._process.pid in (pid, *(parent.pid for parent in process.parents()))
