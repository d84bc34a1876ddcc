"""The base's tokenizer as this library uses it: text is text, whatever is written in it.

A tokenizer also knows control tokens (``</s>``, ``<pad>``, ``<|im_start|>``) that say where a text begins or ends. Only the
tokenizer itself puts them around a text; their names within a text are letters like all others.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from softprompt_core.errors import InvalidInput

_SHOWN = 60  # characters of a text in a message


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What decides how texts become token ids.

    Attributes:
        size: rows of the embedding; tokens beyond them are of no use to the model.
        end: the token that ends an answer; None where the tokenizer has none.
        unknown: the token of what the tokenizer cannot express; None where it can express everything.
        control: tokens that no text holds.
        before, after: control tokens around every input.
    """

    tokenizer: Any
    size: int
    end: int | None
    unknown: int | None
    control: frozenset[int]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Any, size: int) -> Vocabulary:
        """Read a loaded tokenizer. ``size``: rows of the model's embedding."""
        end, unknown = tokenizer.eos_token_id, tokenizer.unk_token_id
        if unknown == end:  # GPT-2 names one token for both, and never meets what it does not know
            unknown = None
        special = {i for i, token in getattr(tokenizer, "added_tokens_decoder", {}).items() if token.special}
        control = frozenset({*tokenizer.all_special_ids, *special} - {unknown})
        return cls(tokenizer, size, end, unknown, control, *_frame(tokenizer, control))

    def encode(self, texts: Sequence[str], *, answers: bool = False) -> list[list[int]]:
        """Token ids of texts, without control tokens.

        Args:
            answers: whether a decoder of its own reads them; some tokenizers have other words for it (Marian).

        Raises:
            InvalidInput: the tokenizer cannot read a text, a text needs a token that the model has no embedding for, or nothing
                but a control token stands for it.
        """
        if not texts:
            return []
        rows = self._read(list(texts), answers)
        # Where control tokens are words of the vocabulary (SentencePiece's unigrams, word lists), splitting is not enough.
        encoded = [
            ids if self.control.isdisjoint(ids) else self._in_pieces(text, answers) for text, ids in zip(texts, rows, strict=True)
        ]
        for text, ids in zip(texts, encoded, strict=True):
            if ids and max(ids) >= self.size:
                self.refuse_unembedded(max(ids), f"the text {_shown(text)}")
        return encoded

    def control_names(self, text: str) -> list[str]:
        """Names of control tokens that are written in a text, where they are read as letters."""
        names = {str(self.tokenizer.convert_ids_to_tokens(i)) for i in self.control}
        return sorted(name for name in names if len(name) > 1 and name in text)

    def refuse_unembedded(self, token: int, what: str) -> None:
        """Raises InvalidInput: ``what`` needs a token that the model has no embedding for."""
        raise InvalidInput(
            f"{what} needs token {token} ({self.tokenizer.convert_ids_to_tokens(token)!r}), but the base has embeddings of "
            f"{self.size} tokens only: its tokenizer knows more than the model",
            where="base_model.id",
            do="use the tokenizer that the model was trained with, or leave out what the model does not know",
        )

    def all_unknown(self, ids: Sequence[int]) -> bool:
        """Whether ids are nothing but the unknown token, the end aside."""
        return set(ids) - {self.end} == {self.unknown}

    def _read(self, texts: list[str], answers: bool) -> list[list[int]]:
        given = {"text_target": texts} if answers else {"text": texts}
        try:
            rows: list[list[int]] = self.tokenizer(**given, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        except Exception as error:  # the tokenizers library raises nothing more special
            if len(texts) > 1:
                return [ids for text in texts for ids in self._read([text], answers)]  # which one is it?
            raise InvalidInput(
                f"the base's tokenizer cannot read the text {_shown(texts[0])} ({error})",
                where="base_model.id",
                do="use a base that knows the language, or leave the text out of the data",
            ) from None
        return rows

    def _in_pieces(self, text: str, answers: bool) -> list[int]:
        """Token ids of a text that the tokenizer would read a control token in: its parts by themselves, cut within the names."""
        names = sorted(self.control_names(text), key=len, reverse=True)
        cuts = [match.start() + 1 for match in re.finditer("|".join(map(re.escape, names)) or r"(?!)", text)]
        parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        return [token for part in parts for token in self._halved(part, answers)]

    def _halved(self, text: str, answers: bool) -> list[int]:
        (ids,) = self._read([text], answers)
        if self.control.isdisjoint(ids):
            return ids
        if len(text) < 2:
            raise InvalidInput(
                f"nothing but a control token of this base stands for {text!r}",
                where="base_model.id",
                do="leave it out of the data",
            )
        # The name is spelt otherwise here (full-width letters): halves are looked at until none holds it.
        middle = len(text) // 2
        return [*self._halved(text[:middle], answers), *self._halved(text[middle:], answers)]


def _frame(tokenizer: Any, control: frozenset[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens that the tokenizer puts before and after a text."""
    words = (str(tokenizer.decode([i])) for i in range(len(tokenizer)) if i not in control)
    for text in ("a", *itertools.islice(words, 100)):  # "a" may be nothing to a tokenizer of few words
        try:
            plain, framed = (tokenizer(text, add_special_tokens=special)["input_ids"] for special in (False, True))
        except Exception:  # a word list without a token for what is unknown
            continue
        if plain and control.isdisjoint(plain):
            start = next((n for n in range(len(framed)) if framed[n : n + len(plain)] == plain), 0)
            return tuple(framed[:start]), tuple(framed[start + len(plain) :])
    return (), ()


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
