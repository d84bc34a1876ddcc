"""Class labels as token sequences, and what ranking them means.

The labels form a tree of tokens. A label's probability is the product, along its path, of the probability of each token *among
the tokens that continue some label* there: the distribution of decoding that may write nothing but a label. Probabilities of
all labels add up to one, long and rare words are not at a disadvantage, and labels that begin alike are told apart where they
part. Tokens at which nothing branches have probability one, so every label is cut after its last branching: labels with
different first tokens need no more than one.

Training uses the same probabilities: what is learned is what is ranked. This departs from Lester et al. 2021, who take the loss
over the whole vocabulary, where making any label likely at all is part of the task.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from softprompt_core.base_model.loading import BaseModel
from softprompt_core.base_model.tokens import answer_ids
from softprompt_core.errors import InvalidInput

_WHERE = "data.target.labels"


@dataclass(frozen=True)
class LabelTree:
    """Token ids of every label, cut after the last branching, and at each position the tokens that continue some label.

    ``ids``: ``[L][tokens]``; ``allowed``: ``[L][tokens][alternatives]``; both in the order of the labels.
    """

    ids: tuple[tuple[int, ...], ...]
    allowed: tuple[tuple[tuple[int, ...], ...], ...]

    @classmethod
    def of(cls, base: BaseModel, labels: Sequence[str]) -> LabelTree:
        """Tokenise label words as answers.

        Raises:
            InvalidInput: two labels have the same tokens, one has none or unknown ones only, or one begins another and the
                tokenizer has no end token to tell them apart.
        """
        by_ids: dict[tuple[int, ...], list[str]] = {}
        for label in labels:
            by_ids.setdefault(answer_ids(base, label, close=False), []).append(label)
        if () in by_ids:
            raise InvalidInput(f"the label {by_ids[()][0]!r} has no tokens", where=_WHERE, do="use a word")
        unknown = next((words[0] for ids, words in by_ids.items() if base.vocabulary.all_unknown(ids)), None)
        if unknown is not None:
            problem = f"this base does not know the label {unknown!r}: nothing but its token for unknown text stands for it"
            raise InvalidInput(problem, where=_WHERE, do="use a word that the base knows")
        same = next((words for words in by_ids.values() if len(words) > 1), None)
        if same:
            raise InvalidInput(f"the labels {same} are the same tokens for this base", where=_WHERE, do="use other words")
        if base.vocabulary.end is None:
            _refuse_beginnings({ids: words[0] for ids, words in by_ids.items()})
        return cls.from_ids([answer_ids(base, label, close=True) for label in labels])

    @classmethod
    def from_ids(cls, closed: Sequence[tuple[int, ...]]) -> LabelTree:
        """From whole sequences (an end token sees to it that none begins another).

        Raises:
            ValueError: one begins another, so that probabilities would not add up to one.
        """
        if _beginning(closed) is not None:
            raise ValueError("one label's tokens begin another's")
        after: dict[tuple[int, ...], set[int]] = {}
        for ids in closed:
            for depth, token in enumerate(ids):
                after.setdefault(ids[:depth], set()).add(token)
        cut, allowed = [], []
        for ids in closed:
            last = max((depth for depth in range(len(ids)) if len(after[ids[:depth]]) > 1), default=0)
            cut.append(ids[: last + 1])
            allowed.append(tuple(tuple(sorted(after[ids[:depth]])) for depth in range(last + 1)))
        return cls(tuple(cut), tuple(allowed))

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def tokens(self) -> tuple[int, ...]:
        """All tokens whose logits matter, sorted."""
        return tuple(sorted({token for label in self.allowed for alternatives in label for token in alternatives}))

    @functools.cached_property
    def roots(self) -> tuple[list[int], list[int]]:
        """The first tokens, sorted, and for each label which of them is its own."""
        first = list(self.allowed[0][0])
        return first, [first.index(ids[0]) for ids in self.ids]

    @functools.cached_property
    def branches(self) -> tuple[tuple[int, ...], ...]:
        """Token sequences that visit every node below the roots when they follow the input; none begins another."""
        inner = {ids[:-1] for ids in self.ids if len(ids) > 1}
        return tuple(sorted(ids for ids in inner if not any(ids != other and other[: len(ids)] == ids for other in inner)))

    def in_terms_of(self, vocabulary: Sequence[int]) -> LabelTree:
        """The same labels with indices into ``vocabulary`` for tokens: for logits of these tokens alone."""
        index = {token: n for n, token in enumerate(vocabulary)}
        ids = tuple(tuple(index[token] for token in label) for label in self.ids)
        allowed = tuple(tuple(tuple(index[token] for token in alternatives) for alternatives in label) for label in self.allowed)
        return LabelTree(ids, allowed)

    def log_probabilities(self, logits: Tensor, tokens: Sequence[tuple[int, int]]) -> Tensor:
        """Log-probability of label tokens among their alternatives.

        Args:
            logits: float32 ``[N, V]``, one row a token.
            tokens: for each row which label, and which token of it.

        Returns:
            ``[N]``.
        """
        alternatives = [list(self.allowed[label][depth]) for label, depth in tokens]
        width = max(map(len, alternatives))
        padded = torch.tensor([ids + [ids[0]] * (width - len(ids)) for ids in alternatives], device=logits.device)
        missing = torch.tensor([[n >= len(ids) for n in range(width)] for ids in alternatives], device=logits.device)
        among = logits.gather(1, padded).masked_fill(missing, float("-inf")).logsumexp(dim=1)
        own = torch.tensor([self.ids[label][depth] for label, depth in tokens], device=logits.device)
        return logits.gather(1, own[:, None])[:, 0] - among


def _beginning(sequences: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """A sequence that begins another (or equals it), and that one."""
    ordered = sorted(sequences)  # whatever begins others stands right before one of them
    return next(((a, b) for a, b in itertools.pairwise(ordered) if b[: len(a)] == a), None)


def _refuse_beginnings(words: Mapping[tuple[int, ...], str]) -> None:
    """``words``: the label of each token sequence. Raises InvalidInput where one begins another."""
    pair = _beginning(list(words))
    if pair is not None:
        short, long = (words[ids] for ids in pair)
        raise InvalidInput(
            f"the label {short!r} begins {long!r}, and this base's tokenizer has no end token that tells them apart",
            where=_WHERE,
            do="use words of which none begins another, or a base whose tokenizer names an eos_token",
        )
