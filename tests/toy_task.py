"""A task that a tiny random model can learn in seconds: one word in the text decides the label."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml

from tests.tiny_models import config, tokenizer

DECIDING = {"good": "positive", "great": "positive", "bad": "negative", "poor": "negative"}
FILLERS = "the a of film book news sport it is was in and to".split()


ANSWERS = {"positive": ("positive", "not sure"), "negative": ("negative", "not")}


def save_taught(folder: Path, steps: int = 150, seed: int = 0) -> Path:
    """A tiny model that can do the task when it is asked: behind a cue it names the label, behind another the second word for it.

    Random weights are no use here: a prompt can only bring out what a frozen model is able to do.
    """
    torch.manual_seed(seed)
    made, words = transformers.LlamaForCausalLM(config("llama")), tokenizer()
    source = random.Random(seed)
    optimizer = torch.optim.AdamW(made.parameters(), lr=3e-3)
    for _ in range(steps):
        texts = []
        for row in rows(32, source.randrange(10**9)):
            cue = source.choice(("question", "answer", "world"))
            said = source.choice(FILLERS) if cue == "world" else ANSWERS[row["label"]][cue == "answer"]
            texts.append(f"{row['text']} {cue} {said}</s>")
        batch = words(texts, return_tensors="pt", padding=True, padding_side="right")
        targets = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        made(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=targets).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    made.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def rows(count: int, seed: int) -> list[dict[str, str]]:
    """Different texts of four words; both labels are equally frequent."""
    source, found = random.Random(seed), {}
    while len(found) < count:
        word = list(DECIDING)[len(found) % 4]
        found[" ".join([*source.sample(FILLERS, 3), word])] = DECIDING[word]
    return [{"text": text, "label": label} for text, label in found.items()]


def write_rows(path: Path, table: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return path


def toy(base: Path | str, **changes: Any) -> dict[str, Any]:
    """A spec as plain data whose gates the trained prompt passes; ``changes`` replace whole keys, None takes one out."""
    value = {
        "name": "toy",
        "description": "Is the text friendly?",
        "base_model": {"id": str(base), "device": "cpu"},
        "data": {
            "source": {"files": {"train": "train.csv", "validation": "validation.csv", "test": "test.csv"}},
            "input": "{text}",
            "target": {"column": "label"},
            "slices": {"film": "text.str.contains('film')"},
        },
        "prompt": {"length": 4},
        "training": {"max_steps": 60, "eval_every": 10, "batch_size": 16, "patience": 20},
        "gates": [
            {"metric": "accuracy", "at_least": 0.8},
            {"metric": "accuracy", "versus": "majority", "at_least_by": 0.2},
            {"metric": "accuracy", "versus": "champion", "margin": 0.1},
        ],
        **changes,
    }
    return {key: part for key, part in value.items() if part is not None}


def write_toy(folder: Path, base: Path | str, **changes: Any) -> Path:
    """Data files and ``toy.yaml`` in a folder; returns the spec's path. Data files that are there stay as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, count) in enumerate({"train": 64, "validation": 24, "test": 32}.items()):
        if not (folder / f"{split}.csv").exists():
            write_rows(folder / f"{split}.csv", rows(count, seed))
    value = toy(base, **changes)
    path = folder / f"{value['name']}.yaml"
    path.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
    return path


def too_large(folder: Path, base: Path) -> dict[str, Any]:
    """Parts of a spec that give no finite prompt: half precision holds nothing above 65,504, and the start is 1e38."""
    import numpy as np

    hidden = json.loads((base / "config.json").read_text())["hidden_size"]
    np.save(folder / "huge.npy", np.full((4, hidden), 1e38, dtype=np.float32))
    half = {"id": str(base), "device": "cpu", "dtype": "float16"}
    return {"base_model": half, "prompt": {"length": 4, "init": "file", "file": str(folder / "huge.npy")}}
