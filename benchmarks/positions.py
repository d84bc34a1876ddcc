"""Where should the prompt stand? Prefix against suffix, and prefix with a cue after the input, on real data.

    python -m benchmarks.positions --data DIR [--only subj,trec] [--steps 200] [--seeds 2] [--write docs/positions.md]

Everything but the position is the same: the bundled base, 20 vectors, the default learning rate, equal rows and seeds. Prompts
are trained and scored with the library's own steps; test rows choose nothing. DIR is that of ``benchmarks/real_data.py``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.real_data import TASKS, spec
from softprompt_core.base_model.loading import load_base
from softprompt_core.data import spread
from softprompt_core.evaluation import metric_value
from softprompt_core.evaluation.scoring import Scorer
from softprompt_core.lifecycle.resolve import resolve
from softprompt_core.lifecycle.tokenized import release
from softprompt_core.lifecycle.train import train
from softprompt_core.markdown import markdown_table
from softprompt_core.soft_prompt import SoftPrompt
from softprompt_core.spec import parse_spec

WAYS: dict[str, dict[str, Any]] = {
    "suffix": {"position": "suffix", "input": "{text}"},
    "prefix": {"position": "prefix", "input": "{text}"},
    "prefix, cue after the input": {"position": "prefix", "input": "{text}\nAnswer:"},
}
TEST_ROWS = 1000


def measure(name: str, way: str, data: Path, steps: int, seeds: int) -> dict[str, Any]:
    """Test accuracy of each seed, and the seconds that their joint training took."""
    value = spec(name, data)
    value["prompt"] = {"position": WAYS[way]["position"], "length": 20}
    value["data"]["input"] = WAYS[way]["input"]
    value["training"] = {"max_steps": steps, "eval_every": max(steps // 4, 1), "seeds": seeds}
    task = resolve(parse_spec(value))
    began = time.monotonic()
    trained = train(task)
    seconds = time.monotonic() - began
    test = spread(task.data.splits["test"], TEST_ROWS)
    scorer = Scorer(load_base(task.spec.base_model), task.spec, test, task.data.labels)
    scores = [metric_value(scorer.soft(SoftPrompt.load(seed.prompt), "candidate"), "accuracy") for seed in trained]
    best_steps = [seed.read_record()["best_step"] for seed in trained]
    release()
    return {"scores": scores, "seconds": seconds, "best": best_steps}


def page(results: dict[tuple[str, str], dict[str, Any]], steps: int, seeds: int, seconds: float, command: str) -> str:
    names = list(dict.fromkeys(name for name, _ in results))
    rows = []
    for name in names:
        row = [name]
        for way in WAYS:
            result = results.get((name, way))
            if result is None:
                row.append("–")
                continue
            each = " / ".join(f"{score:.3f}" for score in result["scores"])
            row.append(f"{statistics.mean(result['scores']):.3f} ({each}), {result['seconds']:.0f} s")
        rows.append(row)
    words = (
        "A suffix lets the inputs' keys and values be computed once; this page is about what that costs in quality. Test "
        f"accuracy on the bundled base: mean of {seeds} seeds (each in brackets), and the wall seconds of their joint training. "
        f"20 vectors, {steps} steps of 32 rows, the best of 4 validation checks, default learning rate; up to {TEST_ROWS} test "
        "rows spread over the split. Positions share rows and seeds."
    )
    made = f"Made by `{command}` in {seconds / 60:.0f} minutes."
    return f"# Prefix or suffix?\n\n{words}\n\n{markdown_table(['Data', *WAYS], rows)}\n\n{made}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default=",".join(TASKS), help="comma-separated names")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--write", type=Path, help="results page")
    arguments = parser.parse_args()
    began, results = time.monotonic(), {}
    with tempfile.TemporaryDirectory() as home:
        os.environ["SOFTPROMPT_HOME"] = home
        for name in arguments.only.split(","):
            for way in WAYS:
                results[name, way] = measure(name, way, arguments.data.absolute(), arguments.steps, arguments.seeds)
                print(name, way, results[name, way], flush=True)
    command = f"python -m benchmarks.positions --data DIR --steps {arguments.steps} --seeds {arguments.seeds}"
    text = page(results, arguments.steps, arguments.seeds, time.monotonic() - began, command)
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
