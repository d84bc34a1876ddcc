"""Whether a recorded process has ended. A process that may be alive is never called gone."""

import json
import os
import subprocess
import sys

import pytest

from softprompt_core.store.processes import certainly_gone, describe, this_process

HERE = json.loads(this_process())


def recorded(**changes) -> str:
    return json.dumps({**HERE, **changes})


def test_this_process_is_alive():
    assert not certainly_gone(this_process())
    assert HERE["pid"] == os.getpid()
    assert describe(this_process()) == f"{HERE['host']}, process {os.getpid()}"


def test_a_process_is_gone_once_it_has_ended_even_while_nobody_has_waited_for_it():
    code = "from softprompt_core.store.processes import this_process; print(this_process(), flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    record = child.stdout.readline()
    assert not certainly_gone(record)
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie
    assert certainly_gone(record)
    child.wait()
    assert certainly_gone(record)
    child.stdout.close()


def test_the_release_before_wrote_the_same_start_times():
    """Clock ticks since the machine's start, field 22 of ``/proc/<pid>/stat``."""
    with open(f"/proc/{os.getpid()}/stat", encoding="utf-8") as file:
        ticks = file.read().rpartition(")")[2].split()[19]
    assert set(HERE) == {"host", "machine", "pid", "started"}
    assert not certainly_gone(recorded(started=ticks))
    assert abs(int(ticks) - int(HERE["started"])) <= os.sysconf("SC_CLK_TCK")


def test_a_number_that_was_given_to_another_process_since_counts_as_gone():
    assert certainly_gone(recorded(started="1"))


@pytest.mark.parametrize("text", ["", "?", "{}", "[]"])
def test_a_record_that_cannot_be_read_is_of_an_unknown_process_that_may_be_alive(text):
    assert not certainly_gone(text)
    assert describe(text) == "an unknown process"


@pytest.mark.parametrize(
    "changes",
    [
        {"machine": "another", "pid": 1, "started": "1"},
        {"machine": None, "started": "1"},
        {"started": None},
        {"started": "another way to write it"},
    ],
    ids=str,
)
def test_a_process_that_cannot_be_compared_is_not_certainly_gone(changes):
    assert not certainly_gone(recorded(**changes))
