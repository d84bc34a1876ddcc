"""`torchrun` with two processes gives the prompt that one process gives, and `softprompt run` takes it up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from softprompt_core.lifecycle.resolve import resolve
from softprompt_core.lifecycle.train import train
from softprompt_core.soft_prompt import SoftPrompt
from softprompt_core.spec import load_spec
from tests.toy_task import write_toy


def torchrun(spec: Path, home: Path, processes: int = 2) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    # The address by number: the machine's own name may not be known to any name server.
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    command += ["-m", "softprompt_core.lifecycle.train_parallel", str(spec)]
    environment = os.environ | {"SOFTPROMPT_HOME": str(home), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize("position", ["prefix", "suffix"])
def test_two_processes_give_the_prompt_of_one(taught_base, tmp_path, monkeypatch, position):
    # 7 validation rows and batches of 5: the processes' shares are not equal.
    changes = {"max_steps": 12, "eval_every": 4, "batch_size": 5, "patience": 20, "seeds": 2}
    path = write_toy(tmp_path, taught_base, prompt={"length": 4, "position": position}, training=changes)
    done = torchrun(path, tmp_path / "parallel")
    assert done.returncode == 0, done.stderr
    spec = load_spec(path)
    monkeypatch.setenv("SOFTPROMPT_HOME", str(tmp_path / "alone"))
    alone = train(resolve(spec))
    monkeypatch.setenv("SOFTPROMPT_HOME", str(tmp_path / "parallel"))
    workspace = resolve(spec).workspace
    for trained in alone:
        expected, weights = (SoftPrompt.load(file).weights for file in (trained.prompt, workspace.prompt(trained.seed)))
        assert float((weights - expected).norm() / expected.norm()) < 1e-5
    before = [workspace.prompt(t.seed).read_bytes() for t in alone]
    again = train(resolve(spec))  # a finished training is taken up, not done again
    assert [workspace.prompt(t.seed).read_bytes() for t in again] == before


def test_a_user_s_mistake_ends_in_words_and_an_exit_code(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("name: bad\n", encoding="utf-8")
    done = torchrun(path, tmp_path / "home", processes=1)
    assert done.returncode != 0 and "invalid: " in done.stderr and "data" in done.stderr
    own = [line for line in done.stderr.splitlines() if "train_parallel.py" in line and line.lstrip().startswith("File")]
    assert not own, "no traceback of our own"


def test_without_torchrun_it_says_how_to_start_it():
    done = subprocess.run(
        [sys.executable, "-m", "softprompt_core.lifecycle.train_parallel", "x.yaml"],
        env={k: v for k, v in os.environ.items() if k != "RANK"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and "torchrun" in done.stderr


def test_without_a_process_group_nothing_is_shared():
    from softprompt_core.training import data_parallel

    values = [torch.ones(2)]
    data_parallel.add_up(values)
    assert (
        data_parallel.size() == 1 and list(data_parallel.share([1, 2, 3])) == [1, 2, 3] and torch.equal(values[0], torch.ones(2))
    )
