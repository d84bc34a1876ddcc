"""Run the benchmarks and write the page.

    python -m benchmarks [--quick] [--device cuda] [--only training,equality,…] [--write docs/benchmarks.md]

``--quick`` looks at everything once and small; its figures are noisy. The page is written anew after every part, so that an
interrupted run leaves what it has. Set ``OMP_NUM_THREADS`` for another number of threads.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.page import Section, render
from benchmarks.plan import FULL, QUICK, Plan, on_gpu


def _parts() -> dict[str, Callable[[Plan], Section]]:
    from benchmarks import many_prompts, orchestration, scoring_speed, training_speed

    return {
        "training": training_speed.speed,
        "equality": training_speed.equality,
        "scoring": scoring_speed.scoring,
        "prompts": many_prompts.prompts,
        "memory": many_prompts.memory,
        "growth": many_prompts.growth,
        "orchestration": orchestration.orchestration,
    }


def run(plan: Plan, names: Iterable[str], command: str, write: Path | None) -> str:
    """Measure the named parts in order; returns the page, and writes it after every part."""
    parts, sections, began, page = _parts(), [], time.monotonic(), ""
    for name in names:
        if name == "orchestration" and plan.task is None:
            continue
        print(f"{name} …", file=sys.stderr, flush=True)
        sections.append(parts[name](plan))
        page = render(sections, plan, command, (time.monotonic() - began) / 60)
        if write:
            write.write_text(page, encoding="utf-8")
    return page


def main() -> None:
    everything = list(_parts())
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure against peers; see docs/benchmarks.md.")
    parser.add_argument("--quick", action="store_true", help="a few minutes; noisy")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", default=",".join(everything), help=f"parts, of: {', '.join(everything)}")
    parser.add_argument("--write", type=Path, help="the page to write; printed otherwise")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := set(names) - set(everything):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    plan = QUICK if options.quick else FULL
    if options.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            parser.error("there is no CUDA device here")
        plan = on_gpu(plan)
    import transformers
    from transformers.utils.logging import disable_progress_bar

    transformers.logging.set_verbosity_error()
    disable_progress_bar()
    page = run(plan, names, " ".join(["python -m benchmarks", *sys.argv[1:]]), options.write)
    if options.write is None:
        print(page)


if __name__ == "__main__":
    main()
