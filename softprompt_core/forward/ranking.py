"""Label ranking: every input runs once, labels that begin alike go on from it once for all that they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from softprompt_core.forward.engine import Engine
from softprompt_core.forward.layout import batches
from softprompt_core.forward.prompts import Prompts
from softprompt_core.label_words import LabelTokens

_TOKENS, _ROWS = 16_384, 256
_GoOn = Callable[[Sequence[int], Sequence[Sequence[int]], list[tuple[int, int]]], Tensor]  # places, their tokens, asked
_CONTINUED = 32_768  # columns that continue at once; each row that goes on holds a copy of its keys and values


@torch.no_grad()
def label_scores(engine: Engine, prompt: Tensor | None, labels: LabelTokens, rows: Sequence[int] | None = None) -> Tensor:
    """Log-probability of every label after every input (see ``label_words``): float32 ``[rows, L]`` on the CPU.

    Args:
        rows: places in the engine's inputs; None for all.
    """
    chosen = range(len(engine.inputs)) if rows is None else rows
    found = rank_labels(engine, [prompt], [labels], [(i, 0) for i in chosen])
    return torch.stack(found) if found else torch.empty(0, len(labels))


@torch.no_grad()
def rank_labels(
    engine: Engine, prompts: Sequence[Tensor | None], labels: Sequence[LabelTokens], queries: Sequence[tuple[int, int]]
) -> list[Tensor]:
    """The same for rows of many tasks in one batch.

    Args:
        prompts: K prompts, of any lengths.
        labels: the label words of each.
        queries: for each row the place of its input and the number of its prompt.

    Returns:
        For each query float32 ``[labels of its prompt]`` on the CPU.
    """
    ranking = _Ranking(engine, engine.prompts(prompts), labels, sorted({token for one in labels for token in one.tokens}))
    found: list[Tensor] = [torch.empty(0)] * len(queries)
    lengths = [len(engine.inputs[i]) + ranking.prompts.columns(k) for i, k in queries]
    for group in batches(lengths, tokens=_TOKENS, rows=_ROWS):
        rows, of = [queries[g][0] for g in group], [queries[g][1] for g in group]
        for g, score in zip(group, ranking.plain(rows, of) if engine.reason else ranking.fast(rows, of), strict=True):
            found[g] = score.cpu()
    return found


class _Ranking:
    """Scores batches: ``rows`` are places of inputs, ``of`` the number of each row's prompt. Logits are those of label tokens."""

    def __init__(self, engine: Engine, prompts: Prompts, labels: Sequence[LabelTokens], vocabulary: Sequence[int]) -> None:
        self.engine, self.prompts, self.labels, self.vocabulary = engine, prompts, labels, vocabulary
        self.own = [one.in_terms_of(vocabulary) for one in labels]

    def plain(self, rows: Sequence[int], of: Sequence[int]) -> list[Tensor]:
        scores = []
        for i, k in zip(rows, of, strict=True):
            ids = self.labels[k].ids
            logits = self.engine.target_logits(self.prompts, [k] * len(ids), [i] * len(ids), ids, self.vocabulary)
            tokens = [(label, place) for label, label_ids in enumerate(ids) for place in range(len(label_ids))]
            parts = self.own[k].log_probabilities(logits, tokens).split([len(label_ids) for label_ids in ids])
            scores.append(torch.stack([part.sum() for part in parts]))
        return scores

    def fast(self, rows: Sequence[int], of: Sequence[int]) -> list[Tensor]:
        further = [place for place, k in enumerate(of) if self.labels[k].branches]
        first, go_on, width = self._first(rows, of, remember=bool(further))
        scores: list[Tensor] = [torch.empty(0)] * len(rows)
        for k in set(of):
            places = [place for place, other in enumerate(of) if other == k]
            roots, mine = self.own[k].roots
            among = first[places][:, roots].log_softmax(dim=1)[:, mine]
            for place, score in zip(places, among, strict=True):
                scores[place] = score
        logits = self._further([(place, branch) for place in further for branch in self.labels[of[place]].branches], go_on, width)
        for place in further:
            ids = self.labels[of[place]].ids
            tokens = [(label, j) for label, label_ids in enumerate(ids) for j in range(1, len(label_ids))]
            stacked = torch.stack([logits[place, ids[label][:j]] for label, j in tokens])
            gained = self.own[of[place]].log_probabilities(stacked, tokens)
            index = torch.tensor([label for label, _ in tokens], device=gained.device)
            scores[place] = scores[place].index_add(0, index, gained)
        return scores

    def _first(self, rows: Sequence[int], of: Sequence[int], *, remember: bool) -> tuple[Tensor, _GoOn, int]:
        """Logits ``[B, L]`` of the first answer token; how places go on with tokens; and the columns that a place remembers."""
        engine, vocabulary = self.engine, self.vocabulary
        if engine.base.kind == "causal":
            first, memory = engine.state(self.prompts, of, rows, vocabulary, remember=remember)
            return first, lambda p, fed, asked: engine.go_on(memory.take(p), fed, asked, vocabulary), memory.mask.shape[1]
        states, mask = engine.encode(self.prompts, of, rows)

        def decode(places: Sequence[int], fed: Sequence[Sequence[int]], asked: list[tuple[int, int]]) -> Tensor:
            index = torch.tensor(places, device=states.device)
            after = [(n, j + 1) for n, j in asked]  # behind the decoder's start token
            return engine.decode(states[index], mask[index], fed, after, vocabulary)

        empty: list[tuple[int, ...]] = [()] * len(rows)
        first = engine.decode(states, mask, empty, [(place, 0) for place in range(len(rows))], vocabulary)
        return first, decode, mask.shape[1]

    def _further(
        self, runs: Sequence[tuple[int, tuple[int, ...]]], go_on: _GoOn, width: int
    ) -> dict[tuple[int, tuple[int, ...]], Tensor]:
        """Logits ``[L]`` after each beginning of a branch at each place; all labels that pass through it read them."""
        logits: dict[tuple[int, tuple[int, ...]], Tensor] = {}
        at_once = max(1, _CONTINUED // (width + max((len(branch) for _, branch in runs), default=1)))
        for start in range(0, len(runs), at_once):
            part = runs[start : start + at_once]
            asked = [(n, j) for n, (_, branch) in enumerate(part) for j in range(len(branch))]
            flat = go_on([place for place, _ in part], [branch for _, branch in part], asked)
            for (n, j), row in zip(asked, flat, strict=True):
                place, branch = part[n]
                logits[place, branch[: j + 1]] = row
        return logits
