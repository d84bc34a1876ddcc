"""Train one task on several processes, one a GPU.

    torchrun --nproc-per-node 2 -m softprompt_core.lifecycle.train_parallel SPEC

Every process loads the base and takes its share of each batch. The trained prompts are written where ``softprompt run SPEC``
looks for a finished training, so that command goes on from there: evaluation, registration, decision.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable

import torch

from softprompt_core.errors import InvalidInput, SoftpromptError
from softprompt_core.lifecycle.resolve import ResolvedTask, resolve
from softprompt_core.lifecycle.train import train
from softprompt_core.spec import load_spec
from softprompt_core.training import Progress, data_parallel


def _silent(task: ResolvedTask, seed: int) -> Callable[[Progress], None]:
    return lambda progress: None


def main(arguments: list[str]) -> int:
    """Returns the exit code of the outcome that a failure leads to, else 0."""
    if len(arguments) != 1 or "RANK" not in os.environ:
        print(__doc__, file=sys.stderr)
        return 2
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    first = data_parallel.is_first()
    if not first:
        warnings.simplefilter("ignore")  # once is enough
    try:
        spec = load_spec(arguments[0])
        if spec.prompt.init == "champion":
            raise InvalidInput(
                "the champion to start from is known to the lifecycle only",
                where="prompt.init",
                do="train this task in one process, with `softprompt run`",
            )
        if first:
            resolve(spec)  # writes the prepared data; the others find them
        torch.distributed.barrier()
        for trained in train(resolve(spec), on_progress=None if first else _silent):
            if first:
                print(f"seed {trained.seed}: validation {trained.metric:.3f}, {trained.stopped}: {trained.prompt}")
        torch.distributed.barrier()  # the first is still writing
    except SoftpromptError as error:
        if first:
            print(f"{error.outcome.value}: {error}", file=sys.stderr)
        return error.outcome.exit_code
    finally:
        torch.distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
