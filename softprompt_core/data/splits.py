"""Splits that the source lacks, made from train.

Texts are ordered by a hash of seed and normalised text, and each label's texts are walked through in that order: a text
goes to test while test lacks rows of its share, then to validation, then to train. So the shares are kept for each label, equal
texts stay together, row order does not matter, and a row that is added later moves at most about one text of its label at each
border and leaves all others where they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from softprompt_core.data.rows import Row


def make_splits(
    rows: Sequence[Row], shares: Mapping[str, float], *, seed: int, stratified: bool, keep: int
) -> dict[str, list[Row]]:
    """Share out training rows.

    Args:
        rows: the training rows of the source.
        shares: split to make → its share of the rows.
        seed: another seed gives another order of the texts.
        stratified: keep the shares within each target (classification). A text with several targets counts under its first.
        keep: rows of each target that train must keep before a split that got none by rounding is given a text of it.

    Returns:
        ``train`` and the splits of ``shares``, each with rows in the order of the source; one may be empty if rows are too few.
    """
    texts: dict[str, list[Row]] = {}
    for row in rows:
        texts.setdefault(row.key, []).append(row)
    strata: dict[str, list[list[Row]]] = {}
    for key in sorted(texts, key=lambda key: _rank(key, seed)):
        group = texts[key]
        strata.setdefault(group[0].target if stratified else "", []).append(group)
    split_of: dict[str, str] = {}
    for groups in strata.values():
        for group, split in zip(groups, _share_out([len(g) for g in groups], shares, keep), strict=True):
            split_of[group[0].key] = split
    splits: dict[str, list[Row]] = {"train": [], **{split: [] for split in shares}}
    for row in rows:
        splits[split_of[row.key]].append(row)
    return splits


def _share_out(sizes: Sequence[int], shares: Mapping[str, float], keep: int) -> list[str]:
    """The split of each text of one label, given how many rows have that text."""
    total = sum(sizes)
    filled = dict.fromkeys((*shares, "train"), 0)
    splits = []
    for size in sizes:
        # Half of the text's rows must still fit: with single rows this rounds the share to the nearest number of rows.
        split = next((name for name, share in shares.items() if filled[name] + size / 2 <= share * total), "train")
        filled[split] += size
        splits.append(split)
    for empty in (name for name in shares if not filled[name]):
        in_train = [index for index, split in enumerate(splits) if split == "train"]
        smallest = min(in_train, key=lambda index: sizes[index], default=None)
        if smallest is not None and filled["train"] - sizes[smallest] >= keep:
            splits[smallest] = empty
            filled["train"] -= sizes[smallest]
    return splits


def _rank(key: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}\n{key}".encode(), digest_size=16).digest()
