"""``Engine``: one base, one prompt position, one list of inputs; the fast path where it is exact, the slow one where not."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from softprompt_core.base_model import checking
from softprompt_core.base_model.loading import BaseModel
from softprompt_core.base_model.tokens import MAX_CONTEXT, TokenizedRow
from softprompt_core.forward import logit_selection
from softprompt_core.forward.input_cache import InputCache, shared_input_cache
from softprompt_core.forward.kv_cache import KVCache, run
from softprompt_core.forward.layout import Piece, pack, pad_right
from softprompt_core.forward.logit_selection import LogitSelection, select_logits
from softprompt_core.forward.plain import plain_target_logits, shift_right
from softprompt_core.forward.prompts import Prompts, prepare_step

ANSWER = 64  # tokens of an answer, where nobody says how long answers may become


class Engine:
    """Runs prompts over a fixed list of inputs, rows of different prompts in one batch.

    A batch is described by two lists of B numbers: ``rows``, indices into ``inputs``, and ``of``, the index of each row's prompt.

    The fast path of the loaded model is compared with the plain one on a few short rows when its first engine is made, and on
    longer ones before rows that are longer than a window of its attention, or than its rotary frequencies stay the same. It is
    switched off with a warning where they differ (an architecture with unusual caching or positions); ``reason`` then says why.

    Args:
        position: ``prefix`` or ``suffix``: where prompts stand.
        cache_bytes: how much of the inputs' keys and values is kept for a suffix; None takes the machine's setting. 0 is for
            inputs that are scored once: prompt and input then run together.

    Raises:
        ValueError: an input without tokens.
    """

    def __init__(
        self, base: BaseModel, position: str, inputs: Sequence[tuple[int, ...]], *, cache_bytes: int | None = None
    ) -> None:
        if not all(inputs):
            raise ValueError("an input has no tokens")
        self.base, self.position, self.inputs = base, position, list(inputs)
        self._longest = max(map(len, self.inputs), default=0)
        self.reason, self.selects_tokens = _capabilities(base, position)
        self.input_cache: InputCache | None = None
        if base.kind == "causal" and position == "suffix" and cache_bytes != 0 and not self.reason:
            self.input_cache = shared_input_cache(base, self.inputs, cache_bytes)
        if self.reason:
            self._warn()

    def prompts(self, prompts: Sequence[Tensor | None], answer: int = ANSWER) -> Prompts:
        """Prompts ``[P, H]`` (None: the bare model) prepared for this engine.

        Args:
            answer: tokens of the longest answer.

        Raises:
            InvalidInput: in rows of this length, later tokens change what the model predicts before them.
        """
        self._check_length(prompts, answer)
        return Prompts.prepare(self.base, self.position, prompts, with_cache=not self.reason)

    def prepare_step(self, prompts: Sequence[Tensor], answer: int = ANSWER) -> tuple[Prompts, Callable[[], None]]:
        """Prompts ``[P, H]`` prepared for a training step in parts; see ``prompts.prepare_step``. Raises as ``prompts``."""
        self._check_length(prompts, answer)
        return prepare_step(self.base, self.position, prompts, with_cache=not self.reason)

    def target_logits(
        self,
        prompts: Prompts,
        of: Sequence[int],
        rows: Sequence[int],
        targets: Sequence[Sequence[int]],
        tokens: Sequence[int] | None = None,
    ) -> Tensor:
        """Logits that predict every target token, float32 ``[N, V]``, N = target tokens of all rows one after another.

        Args:
            targets: token ids of each row's answer.
            tokens: ids of the L tokens whose logits are needed, ``[N, L]`` then; None for the whole vocabulary.
        """
        if self.reason:
            return self._plain(prompts, of, rows, targets, tokens)
        if self.base.kind == "encoder_decoder":
            states, mask = self.encode(prompts, of, rows)
            positions = [(i, j) for i, target in enumerate(targets) for j in range(len(target))]
            return self.decode(states, mask, [target[:-1] for target in targets], positions, tokens)
        past, embedded, mask, last = self._columns(prompts, of, rows, [tuple(target[:-1]) for target in targets])
        positions = [(i, last[i] + j) for i, target in enumerate(targets) for j in range(len(target))]
        logits, _ = run(self.base, past, embedded, mask, self._selection(positions, tokens))
        return self._chosen(logits, tokens)

    def prefill(
        self,
        prompts: Prompts,
        of: Sequence[int],
        rows: Sequence[int],
        tokens: Sequence[int] | None = None,
        *,
        return_cache: bool = True,
    ) -> tuple[Tensor, KVCache]:
        """Causal only: logits ``[B, V or L]`` of the first answer token, and the cache that the answer continues from (empty
        without ``return_cache``)."""
        past, embedded, mask, last = self._columns(prompts, of, rows, [()] * len(rows))
        selection = self._selection(list(enumerate(last)), tokens)
        logits, cache = run(self.base, past, embedded, mask, selection, return_cache=return_cache)
        return self._chosen(logits, tokens), cache.left_padded() if return_cache else cache

    def extend(
        self, past: KVCache, fed: Sequence[Sequence[int]], positions: list[tuple[int, int]], tokens: Sequence[int] | None = None
    ) -> Tensor:
        """Causal only: logits ``[N, V or L]`` after further tokens ``fed``, at N pairs of row and index into its tokens."""
        ids, mask = pad_right(fed)
        selection = self._selection(positions, tokens)
        logits, _ = run(self.base, past, self.base.embed(ids), mask.to(self.base.device), selection)
        return self._chosen(logits, tokens)

    def decode_step(self, past: KVCache, tokens: Sequence[int]) -> tuple[Tensor, KVCache]:
        """Causal only: append one token to each row; logits ``[B, V]`` of the one after it, and the cache with it."""
        embedded = self.base.embed(torch.tensor(tokens)[:, None])
        mask = torch.ones(len(tokens), 1, dtype=torch.long, device=self.base.device)
        selection = self._selection([(row, 0) for row in range(len(tokens))], None)
        return run(self.base, past, embedded, mask, selection, return_cache=True)

    def encoder_batch(self, prompts: Prompts, of: Sequence[int], rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Encoder–decoder only: embedded encoder inputs ``[B, T, H]`` with the prompts in place, and their mask."""
        pieces: list[list[Piece]] = [[k, self.inputs[i]] for k, i in zip(of, rows, strict=True)]
        if self.position == "suffix":
            pieces = [[ids, k] for k, ids in pieces]
        return pack(self.base, prompts.vectors, prompts.lengths, pieces)

    def encode(self, prompts: Prompts, of: Sequence[int], rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Encoder–decoder only: the encoder's states of inputs and prompts, ``[B, T, H]``, and the mask."""
        embedded, mask = self.encoder_batch(prompts, of, rows)
        return self.base.model.get_encoder()(inputs_embeds=embedded, attention_mask=mask).last_hidden_state, mask

    def decode(
        self,
        states: Tensor,
        mask: Tensor,
        fed: Sequence[Sequence[int]],
        positions: list[tuple[int, int]],
        tokens: Sequence[int] | None,
    ) -> Tensor:
        """Encoder–decoder only: logits ``[N, V or L]`` of a decoder that reads the start token and then ``fed``."""
        base, (ids, _) = self.base, pad_right([[*row, 0] for row in fed])
        decoder_ids = shift_right(base, ids.to(base.device))
        with select_logits(self._selection(positions, tokens)):
            output = base.model(encoder_outputs=(states,), attention_mask=mask, decoder_input_ids=decoder_ids, use_cache=False)
        return self._chosen(output.logits[0].float(), tokens)

    def _columns(
        self, prompts: Prompts, of: Sequence[int], rows: Sequence[int], tails: Sequence[tuple[int, ...]]
    ) -> tuple[KVCache, Tensor, Tensor, list[int]]:
        """What is cached, what still has to run (embedded ``[B, T, H]``, mask ``[B, T]``), and each row's last column before the
        answer. ``tails``: answer tokens to run as well."""
        inputs, lengths = [self.inputs[i] for i in rows], [prompts.lengths[k] for k in of]
        past = KVCache.empty(len(rows), self.base.device)
        vectors, all_lengths = prompts.vectors, prompts.lengths
        pieces: list[list[Piece]]
        if self.position == "prefix" or not len(vectors):
            if prompts.cache is not None:
                past = prompts.cache.select(of)
            if self.position == "prefix":
                vectors, all_lengths = vectors[:0], ()
            pieces = [[ids, tail] for ids, tail in zip(inputs, tails, strict=True)]
            last = [len(ids) - 1 for ids in inputs]
        elif self.input_cache is None or not all(lengths):  # a bare row among others has nothing to run after a cached input
            pieces = [[ids, k, tail] for ids, k, tail in zip(inputs, of, tails, strict=True)]
            last = [len(ids) + length - 1 for ids, length in zip(inputs, lengths, strict=True)]
        else:
            past = self.input_cache.batch(rows)
            pieces = [[k, tail] for k, tail in zip(of, tails, strict=True)]
            last = [length - 1 for length in lengths]
        return past, *pack(self.base, vectors, all_lengths, pieces), last

    def _check_length(self, prompts: Sequence[Tensor | None], answer: int) -> None:
        """Compare the paths on longer rows where those of this engine are, and were not checked yet."""
        if self.reason:
            return
        columns = self._longest + max((len(prompt) for prompt in prompts if prompt is not None), default=0) + answer
        passed = [length for length in self.base.switches if length < columns]
        if passed:
            self.reason, selects_tokens = _capabilities(self.base, self.position, passed[-1])
            self.selects_tokens = self.selects_tokens and selects_tokens
            if self.reason:
                self._warn()

    def _warn(self) -> None:
        warnings.warn(f"{self.base.identity.id}: slow path, row by row: {self.reason}", RuntimeWarning, stacklevel=4)

    def _selection(self, positions: Sequence[tuple[int, int]], tokens: Sequence[int] | None) -> LogitSelection:
        chosen = torch.tensor(tokens, device=self.base.device) if tokens is not None and self.selects_tokens else None
        return LogitSelection.of(self.base, positions, chosen)

    def _chosen(self, logits: Tensor, tokens: Sequence[int] | None) -> Tensor:
        return logits if tokens is None or self.selects_tokens else logits[:, list(tokens)]

    def _plain(
        self,
        prompts: Prompts,
        of: Sequence[int],
        rows: Sequence[int],
        targets: Sequence[Sequence[int]],
        tokens: Sequence[int] | None,
    ) -> Tensor:
        each = prompts.vectors.split(list(prompts.lengths))
        logits = torch.cat(
            [
                plain_target_logits(self.base, each[k], self.position, [TokenizedRow(self.inputs[i], tuple(target))])[0]
                for k, i, target in zip(of, rows, targets, strict=True)
            ]
        )
        return logits if tokens is None else logits[:, list(tokens)]


_Capabilities = tuple[str | None, bool]
_known_capabilities: weakref.WeakKeyDictionary[BaseModel, dict[tuple[str, int], _Capabilities]] = weakref.WeakKeyDictionary()


def _capabilities(base: BaseModel, position: str, longer_than: int = 0) -> _Capabilities:
    """Why the fast path of this model cannot be used (None: it can), and whether it can give logits of chosen tokens alone.

    Args:
        longer_than: a length of rows after which the model works otherwise; 0 for short rows.
    """
    known = _known_capabilities.setdefault(base, {})
    if (position, longer_than) not in known:
        known[position, longer_than] = _self_check(base, position, longer_than)
    return known[position, longer_than]


def _self_check(base: BaseModel, position: str, longer_than: int) -> _Capabilities:
    """Run a few rows of two prompts of different lengths on the fast and on the plain path.

    Raises:
        InvalidInput: in longer rows, later tokens change what the model predicts before them.
    """
    if base.model.get_output_embeddings() is None:
        return "the model names no output layer", False
    logit_selection.prepare(base)
    ids = checking.ordinary_ids(base, 13)
    inputs = [tuple(ids[:9]), tuple(ids[4:7]), tuple(ids[3:8])]
    if longer_than:
        long = checking.ordinary_ids(base, min(longer_than + 8, (base.context or MAX_CONTEXT) - 8))
        # One row passes the length by itself, and one not before its prompt and answer.
        inputs = [tuple(long), tuple(long[1 : longer_than - 1]) or tuple(long[:1]), tuple(ids[3:8])]
    targets = [(ids[2],), (ids[9], ids[10], ids[1]), (ids[5],)]
    of, tokens = [0, 1, 0], sorted({*ids[:6], *(token for target in targets for token in target)})
    with torch.no_grad():
        vectors = base.embed(torch.tensor(ids[2:9])).float()
        each = [vectors[:4], vectors[4:]]
        engine = Engine.__new__(Engine)  # one that is not checked, or this would not end
        engine.base, engine.position, engine.inputs, engine.reason, engine.selects_tokens = base, position, inputs, None, False
        engine.input_cache = InputCache(base, inputs, 1) if base.kind == "causal" and position == "suffix" else None
        uncached = Prompts.prepare(base, position, each, with_cache=False)
        expected = engine._plain(uncached, of, [0, 1, 2], targets, None)
        if longer_than and base.kind == "causal":
            other = engine._plain(uncached, [1], [1], [(ids[11], ids[12], ids[0])], None)
            checking.refuse_leak(base, expected[1:2], other[:1], base.identity.short)

        def difference(logits: Tensor, plain: Tensor) -> str | None:
            relative = checking.relative_difference(logits, plain)
            # Half-precision models differ by rounding alone; float32 must agree closely.
            return None if relative <= checking.tolerance(base) else f"batched and plain logits differ by {relative:.1e}"

        try:
            prompts = Prompts.prepare(base, position, each)
            reason = difference(engine.target_logits(prompts, of, [0, 1, 2], targets), expected)
            if base.kind == "causal" and not reason:
                first, cache = engine.prefill(prompts, of, [0, 1, 2])
                further = engine.extend(cache.select([1]), [targets[1][:-1]], [(0, 0), (0, 1)])
                reason = difference(torch.cat([first[1:2], further]), expected[1:4])
        except checking.REFUSALS as error:
            reason = f"this architecture refuses the cached path ({type(error).__name__}: {error})"
        if reason or not logit_selection.can_select_tokens(base):
            return reason, False
        engine.selects_tokens = True
        try:
            chosen = engine.target_logits(prompts, of, [0, 1, 2], targets, tokens)
            return None, difference(chosen, expected[:, tokens]) is None
        except checking.REFUSALS:  # BART adds a bias of the whole vocabulary behind its output layer
            return None, False
