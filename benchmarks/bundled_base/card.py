"""The bundled base's model card and loss curve, written from the facts of the training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_card(out: Path, facts: dict[str, Any]) -> None:
    """Write ``README.md`` and ``loss.png`` into the model folder; every figure comes from ``facts`` (training.json)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    tokens = [point["tokens"] / 1e6 for point in facts["curve"]]
    axes.plot(tokens, [point["train"] for point in facts["curve"]], label="training (running mean)")
    axes.plot(tokens, [point["held_out"] for point in facts["curve"]], label="held out")
    axes.set(xlabel="training tokens (millions)", ylabel="loss (nats per token)")
    axes.legend(frameon=False)
    figure.savefig(out / "loss.png", dpi=110)

    recipe, last = facts["recipe"], facts["curve"][-1]
    shape = f"{recipe['layers']} layers, hidden {recipe['hidden_size']}, {recipe['heads']} heads, context {recipe['context']}"
    rows = "\n".join(
        f"| {s['title']} | {facts['characters'][s['file']] / 1e6:.1f} | {s['repeats']} | {s['licence']} |"
        for s in facts["sources"]
    )
    (out / "README.md").write_text(
        f"""---
license: cc-by-4.0
language: en
library_name: transformers
---
# The bundled base model

A Llama-shaped causal language model of {facts["parameters"] / 1e6:.1f} million parameters. It is here so that
the demo, the tests and a first try need no download. It is **not** a good language model: use a real one for real work.

| | |
|---|---|
| shape | {shape}, vocabulary {recipe["vocab_size"]} (byte-level BPE) |
| trained on | {facts["tokens"] / 1e6:.2f} million tokens, {facts["steps"]} steps, {facts["minutes"]} minutes on CPU |
| final loss | {last["train"]:.3f} training, {last["held_out"]:.3f} held out (nats per token) |
| stored as | bfloat16 safetensors |
| licence | weights: CC BY 4.0; texts: see below |

![loss](loss.png)

## Text

Only text that is in the public domain or whose licence clearly allows any use. {recipe["lowercase_share"]:.0%} of the
documents were lower-cased.

| source | million characters | repeats | licence |
|---|---|---|---|
{rows}

Every 50th document was held out of training and measures the held-out loss.

## Intended use and limits

Demonstrations, tests, benchmarks of the software. Most of its text is English fiction of the 19th century, speeches and a little
modern prose: expect dated words, dated views and no knowledge. Do not generate text for people with it.

## Built by

    python -m benchmarks.bundled_base.build --corpora DIR --minutes {facts["minutes"]:.0f}

All settings and the whole curve are in `training.json`.
"""
    )
