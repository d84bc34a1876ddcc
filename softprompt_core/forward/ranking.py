"""Label ranking: every input runs once, and labels that begin alike continue from it once for all that they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from softprompt_core.base_model.label_tree import LabelTree
from softprompt_core.forward.engine import Engine
from softprompt_core.forward.layout import batches
from softprompt_core.forward.prompts import Prompts

_TOKENS, _ROWS = 16_384, 256  # of a batch
_COLUMNS = 32_768  # that continue at once; each row that does holds a copy of its keys and values
_Extend = Callable[[Sequence[int], Sequence[Sequence[int]], list[tuple[int, int]]], Tensor]
"""Logits ``[N, L]`` of batch rows that continue with further tokens, at N pairs of continuation and index into its tokens."""


@torch.no_grad()
def label_scores(engine: Engine, prompt: Tensor | None, labels: LabelTree, rows: Sequence[int] | None = None) -> Tensor:
    """Log-probability of every label after every input (see ``label_tree``): float32 ``[rows, L]`` on the CPU.

    Args:
        rows: indices into the engine's inputs; None for all.
    """
    rows = range(len(engine.inputs)) if rows is None else rows
    scores = rank_labels(engine, [prompt], [labels], [(row, 0) for row in rows])
    return torch.stack(scores) if scores else torch.empty(0, len(labels))


@torch.no_grad()
def rank_labels(
    engine: Engine, prompts: Sequence[Tensor | None], labels: Sequence[LabelTree], queries: Sequence[tuple[int, int]]
) -> list[Tensor]:
    """The same for rows of many tasks in one batch.

    Args:
        prompts: K prompts, of any lengths.
        labels: the labels of each.
        queries: for each row the index of its input and that of its prompt.

    Returns:
        For each query float32 ``[labels of its prompt]`` on the CPU.
    """
    ranking = _Ranking(engine, engine.prompts(prompts), labels)
    scores: list[Tensor] = [torch.empty(0)] * len(queries)
    lengths = [len(engine.inputs[i]) + ranking.prompts.columns(k) for i, k in queries]
    for group in batches(lengths, tokens=_TOKENS, rows=_ROWS):
        rows, of = [queries[g][0] for g in group], [queries[g][1] for g in group]
        batch = ranking.plain(rows, of) if engine.reason else ranking.fast(rows, of)
        for g, score in zip(group, batch, strict=True):
            scores[g] = score.cpu()
    return scores


class _Ranking:
    """Scores batches; ``rows`` and ``of`` as in ``Engine``. All logits are those of the L tokens of any label."""

    def __init__(self, engine: Engine, prompts: Prompts, labels: Sequence[LabelTree]) -> None:
        self.engine, self.prompts, self.labels = engine, prompts, labels
        self.vocabulary = sorted({token for tree in labels for token in tree.tokens})
        self.indexed = [tree.in_terms_of(self.vocabulary) for tree in labels]

    def plain(self, rows: Sequence[int], of: Sequence[int]) -> list[Tensor]:
        """Every label of every row by itself."""
        scores = []
        for i, k in zip(rows, of, strict=True):
            ids = self.labels[k].ids
            logits = self.engine.target_logits(self.prompts, [k] * len(ids), [i] * len(ids), ids, self.vocabulary)
            tokens = [(label, depth) for label, label_ids in enumerate(ids) for depth in range(len(label_ids))]
            parts = self.indexed[k].log_probabilities(logits, tokens).split(list(map(len, ids)))
            scores.append(torch.stack([part.sum() for part in parts]))
        return scores

    def fast(self, rows: Sequence[int], of: Sequence[int]) -> list[Tensor]:
        """First tokens of all labels at once, then the branches of the label trees from there."""
        branching = [n for n, k in enumerate(of) if self.labels[k].branches]
        first, extend, width = self._first(rows, of, return_cache=bool(branching))
        scores: list[Tensor] = [torch.empty(0)] * len(rows)
        for k in set(of):
            batch_rows = [n for n, other in enumerate(of) if other == k]
            roots, own_root = self.indexed[k].roots
            for n, score in zip(batch_rows, first[batch_rows][:, roots].log_softmax(dim=1)[:, own_root], strict=True):
                scores[n] = score
        logits = self._branches([(n, branch) for n in branching for branch in self.labels[of[n]].branches], extend, width)
        for n in branching:
            ids = self.labels[of[n]].ids
            tokens = [(label, depth) for label, label_ids in enumerate(ids) for depth in range(1, len(label_ids))]
            stacked = torch.stack([logits[n, ids[label][:depth]] for label, depth in tokens])
            gained = self.indexed[of[n]].log_probabilities(stacked, tokens)
            index = torch.tensor([label for label, _ in tokens], device=gained.device)
            scores[n] = scores[n].index_add(0, index, gained)
        return scores

    def _first(self, rows: Sequence[int], of: Sequence[int], *, return_cache: bool) -> tuple[Tensor, _Extend, int]:
        """Logits ``[B, L]`` of the first answer token; how batch rows continue; and the columns that one holds when it does."""
        engine, vocabulary = self.engine, self.vocabulary
        if engine.base.kind == "causal":
            first, cache = engine.prefill(self.prompts, of, rows, vocabulary, return_cache=return_cache)
            return first, lambda ns, fed, at: engine.extend(cache.select(ns), fed, at, vocabulary), cache.mask.shape[1]
        states, mask = engine.encode(self.prompts, of, rows)

        def decode(batch_rows: Sequence[int], fed: Sequence[Sequence[int]], positions: list[tuple[int, int]]) -> Tensor:
            index = torch.tensor(batch_rows, device=states.device)
            after_start = [(n, j + 1) for n, j in positions]  # behind the decoder's start token
            return engine.decode(states[index], mask[index], fed, after_start, vocabulary)

        nothing: list[tuple[int, ...]] = [()] * len(rows)
        first = engine.decode(states, mask, nothing, [(n, 0) for n in range(len(rows))], vocabulary)
        return first, decode, mask.shape[1]

    def _branches(
        self, branches: Sequence[tuple[int, tuple[int, ...]]], extend: _Extend, width: int
    ) -> dict[tuple[int, tuple[int, ...]], Tensor]:
        """Logits ``[L]`` after each beginning of a branch, for each batch row; all labels that pass through it read them."""
        logits: dict[tuple[int, tuple[int, ...]], Tensor] = {}
        at_once = max(1, _COLUMNS // (width + max((len(branch) for _, branch in branches), default=1)))
        for start in range(0, len(branches), at_once):
            part = branches[start : start + at_once]
            positions = [(m, j) for m, (_, branch) in enumerate(part) for j in range(len(branch))]
            rows = extend([n for n, _ in part], [branch for _, branch in part], positions)
            for (m, j), row in zip(positions, rows, strict=True):
                n, branch = part[m]
                logits[n, branch[: j + 1]] = row
        return logits
