"""Label ranking: every input runs once, labels that begin alike go on from it once for all that they share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from softprompt_core.forward.engine import Engine
from softprompt_core.forward.layout import batches
from softprompt_core.forward.memory import Memory
from softprompt_core.forward.prompts import Prompts
from softprompt_core.label_words import LabelTokens

_TOKENS, _ROWS = 16_384, 256
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
    ready = engine.prompts(prompts)
    vocabulary = sorted({token for one in labels for token in one.tokens})
    own = [one.in_terms_of(vocabulary) for one in labels]
    found: list[Tensor] = [torch.empty(0)] * len(queries)
    lengths = [len(engine.inputs[i]) + ready.lengths[k] for i, k in queries]
    for group in batches(lengths, tokens=_TOKENS, rows=_ROWS):
        rows, of = [queries[g][0] for g in group], [queries[g][1] for g in group]
        scores = _plain(engine, ready, labels, own, rows, of, vocabulary) if engine.reason else None
        scores = scores if scores is not None else _fast(engine, ready, labels, own, rows, of, vocabulary)
        for g, score in zip(group, scores, strict=True):
            found[g] = score.cpu()
    return found


def _plain(
    engine: Engine,
    prompts: Prompts,
    labels: Sequence[LabelTokens],
    own: Sequence[LabelTokens],
    rows: Sequence[int],
    of: Sequence[int],
    vocabulary: Sequence[int],
) -> list[Tensor]:
    scores = []
    for i, k in zip(rows, of, strict=True):
        ids = labels[k].ids
        logits = engine.target_logits(prompts, [k] * len(ids), [i] * len(ids), ids, vocabulary)
        tokens = [(label, place) for label, label_ids in enumerate(ids) for place in range(len(label_ids))]
        parts = own[k].log_probabilities(logits, tokens).split([len(label_ids) for label_ids in ids])
        scores.append(torch.stack([part.sum() for part in parts]))
    return scores


def _fast(
    engine: Engine,
    prompts: Prompts,
    labels: Sequence[LabelTokens],
    own: Sequence[LabelTokens],
    rows: Sequence[int],
    of: Sequence[int],
    vocabulary: Sequence[int],
) -> list[Tensor]:
    further = [place for place, k in enumerate(of) if labels[k].branches]
    if engine.base.kind == "causal":
        first, memory = engine.state(prompts, of, rows, vocabulary, remember=bool(further))
        encoded = None
    else:
        embedded, mask = engine.encoder_batch(prompts, of, rows)
        states = engine.base.model.get_encoder()(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        first = engine.decode(states, mask, [()] * len(rows), [(place, 0) for place in range(len(rows))], vocabulary)
        memory, encoded = Memory.empty(0, first.device), (states, mask)
    scores: list[Tensor] = [torch.empty(0)] * len(rows)
    for k in set(of):
        places = [place for place, other in enumerate(of) if other == k]
        roots, mine = own[k].roots
        among = first[places][:, roots].log_softmax(dim=1)[:, mine]
        for place, score in zip(places, among, strict=True):
            scores[place] = score
    # What goes on: a branch of a row is a run of label tokens; all labels that pass through it read their logits there.
    runs = [(place, branch) for place in further for branch in labels[of[place]].branches]
    width = max(map(len, (branch for _, branch in runs)), default=0) + (
        memory.mask.shape[1] if encoded is None else encoded[1].shape[1]
    )
    at_once = max(1, _CONTINUED // max(width, 1))
    logits: dict[tuple[int, tuple[int, ...]], Tensor] = {}
    for start in range(0, len(runs), at_once):
        part = runs[start : start + at_once]
        fed = [branch for _, branch in part]
        asked = [(n, j) for n, branch in enumerate(fed) for j in range(len(branch))]
        if encoded is None:
            flat = engine.go_on(memory.take([place for place, _ in part]), fed, asked, vocabulary)
        else:
            index = torch.tensor([place for place, _ in part], device=first.device)
            after = [(n, j + 1) for n, j in asked]  # behind the decoder's start token
            flat = engine.decode(encoded[0][index], encoded[1][index], fed, after, vocabulary)
        for (n, j), row in zip(asked, flat, strict=True):
            logits[part[n][0], fed[n][: j + 1]] = row
    for place in further:
        ids = labels[of[place]].ids
        tokens = [(label, j) for label, label_ids in enumerate(ids) for j in range(1, len(label_ids))]
        stacked = torch.stack([logits[place, ids[label][:j]] for label, j in tokens])
        gained = own[of[place]].log_probabilities(stacked, tokens)
        index = torch.tensor([label for label, _ in tokens], device=gained.device)
        scores[place] = scores[place].index_add(0, index, gained)
    return scores
