"""``Engine``: one base, one prompt position, one list of inputs; the fast path where it is exact, the slow one where not."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from softprompt_core.base_model import BaseModel
from softprompt_core.encoding import Row
from softprompt_core.forward import head
from softprompt_core.forward.contexts import ContextCache, shared_contexts
from softprompt_core.forward.head import Asked
from softprompt_core.forward.layout import Piece, pack, pad_right
from softprompt_core.forward.memory import Memory, run
from softprompt_core.forward.plain import plain_target_logits, shift_right
from softprompt_core.forward.prompts import Prompts, for_step


class Engine:
    """Runs prompts over a fixed list of inputs, rows of different prompts in one batch.

    The fast path of the loaded model is compared with the plain one on a few short rows when its first engine is made, and
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
        self.reason, self.chooses_tokens = _abilities(base, position)
        self.contexts: ContextCache | None = None
        if base.kind == "causal" and position == "suffix" and cache_bytes != 0 and not self.reason:
            self.contexts = shared_contexts(base, self.inputs, cache_bytes)
        if self.reason:
            warnings.warn(f"{base.identity.id}: slow path, row by row: {self.reason}", RuntimeWarning, stacklevel=2)

    def prompts(self, prompts: Sequence[Tensor | None]) -> Prompts:
        """Prompts ``[P, H]`` (None: the bare model) made ready for this engine."""
        return Prompts.ready(self.base, self.position, prompts, remember=not self.reason)

    def for_step(self, prompts: Sequence[Tensor]) -> tuple[Prompts, Callable[[], None]]:
        """Prompts ``[P, H]`` made ready for a training step in parts; see ``prompts.for_step``."""
        return for_step(self.base, self.position, prompts, remember=not self.reason)

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
            of: which prompt each row has.
            rows: places in ``inputs``.
            targets: token ids of each row's answer.
            tokens: ids of the L tokens whose logits are wanted, ``[N, L]`` then; None for the whole vocabulary.
        """
        if self.reason:
            return self._plain(prompts, of, rows, targets, tokens)
        places, base = [len(t) for t in targets], self.base
        if base.kind == "causal":
            memory, embedded, mask, last = self._fresh(prompts, of, rows, [tuple(t[:-1]) for t in targets])
            what = self._asked([(i, last[i] + j) for i, count in enumerate(places) for j in range(count)], tokens)
            logits, _ = run(base, memory, embedded, mask, what)
        else:
            states, mask = self.encode(prompts, of, rows)
            asked = [(i, j) for i, count in enumerate(places) for j in range(count)]
            return self.decode(states, mask, [t[:-1] for t in targets], asked, tokens)
        return self._chosen(logits, tokens)

    def state(
        self,
        prompts: Prompts,
        of: Sequence[int],
        rows: Sequence[int],
        tokens: Sequence[int] | None = None,
        *,
        remember: bool = True,
    ) -> tuple[Tensor, Memory]:
        """Causal only: logits ``[B, V or L]`` of the first answer token, and the memory that the answer continues from."""
        memory, embedded, mask, last = self._fresh(prompts, of, rows, [()] * len(rows))
        what = self._asked(list(enumerate(last)), tokens)
        logits, memory = run(self.base, memory, embedded, mask, what, remember=remember)
        return self._chosen(logits, tokens), memory.aligned() if remember else memory

    def go_on(
        self, memory: Memory, fed: Sequence[Sequence[int]], asked: list[tuple[int, int]], tokens: Sequence[int] | None = None
    ) -> Tensor:
        """Causal only: logits ``[N, V or L]`` after further tokens. ``asked``: pairs of row and place in its ``fed`` tokens."""
        ids, mask = pad_right(fed)
        embedded = self.base.embed(ids)
        logits, _ = run(self.base, memory, embedded, mask.to(self.base.device), self._asked(asked, tokens))
        return self._chosen(logits, tokens)

    def next_token(self, memory: Memory, tokens: Sequence[int]) -> tuple[Tensor, Memory]:
        """Causal only: write one token a row; logits ``[B, V]`` of the one after it, and the memory with it."""
        rows = len(tokens)
        embedded = self.base.embed(torch.tensor(tokens)[:, None])
        mask = torch.ones(rows, 1, dtype=torch.long, device=self.base.device)
        return run(self.base, memory, embedded, mask, self._asked([(n, 0) for n in range(rows)], None), remember=True)

    def encoder_batch(self, prompts: Prompts, of: Sequence[int], rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Encoder–decoder only: embedded encoder inputs ``[B, T, H]`` with the prompts in place, and their mask."""
        pieces: list[list[Piece]] = [[k, self.inputs[i]] for k, i in zip(of, rows, strict=True)]
        if self.position == "suffix":
            pieces = [[ids, k] for k, ids in pieces]
        return pack(self.base, prompts.vectors, prompts.lengths, pieces)

    def encode(self, prompts: Prompts, of: Sequence[int], rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Encoder–decoder only: what the encoder makes of inputs and prompts, ``[B, T, H]``, and the mask."""
        embedded, mask = self.encoder_batch(prompts, of, rows)
        return self.base.model.get_encoder()(inputs_embeds=embedded, attention_mask=mask).last_hidden_state, mask

    def decode(
        self,
        states: Tensor,
        mask: Tensor,
        fed: Sequence[Sequence[int]],
        asked: list[tuple[int, int]],
        tokens: Sequence[int] | None,
    ) -> Tensor:
        """Encoder–decoder only: logits ``[N, V or L]`` of a decoder that reads the start token and then ``fed``."""
        base, (ids, _) = self.base, pad_right([[*row, 0] for row in fed])
        with head.asked(self._asked(asked, tokens)):
            fed_ids = shift_right(base, ids.to(base.device))
            logits = base.model(encoder_outputs=(states,), attention_mask=mask, decoder_input_ids=fed_ids, use_cache=False).logits
        return self._chosen(logits[0].float(), tokens)

    def _fresh(
        self, prompts: Prompts, of: Sequence[int], rows: Sequence[int], tails: Sequence[tuple[int, ...]]
    ) -> tuple[Memory, Tensor, Tensor, list[int]]:
        """What is remembered, what still has to run (embedded ``[B, T, H]``, mask ``[B, T]``), and each row's last column before
        the answer. ``tails``: answer tokens to run as well."""
        base, inputs = self.base, [self.inputs[i] for i in rows]
        memory = Memory.empty(len(rows), base.device)
        lengths = [prompts.lengths[k] for k in of]
        if self.position == "prefix" or not len(prompts.vectors):
            if prompts.memory is not None:
                memory = prompts.memory.take(of)
            pieces: list[list[Piece]] = [[ids, tail] for ids, tail in zip(inputs, tails, strict=True)]
            last = [len(ids) - 1 for ids in inputs]
        elif self.contexts is None or not all(lengths):  # a bare row among others has nothing to run after a remembered input
            pieces = [[ids, k, tail] for ids, k, tail in zip(inputs, of, tails, strict=True)]
            last = [len(ids) + length - 1 for ids, length in zip(inputs, lengths, strict=True)]
        else:
            memory = self.contexts.batch(rows)
            pieces = [[k, tail] for k, tail in zip(of, tails, strict=True)]
            last = [length - 1 for length in lengths]
        none = prompts.vectors[:0] if self.position == "prefix" else prompts.vectors
        embedded, mask = pack(base, none, () if self.position == "prefix" else prompts.lengths, pieces)
        return memory, embedded, mask, last

    def _asked(self, places: list[tuple[int, int]], tokens: Sequence[int] | None) -> Asked:
        chosen = torch.tensor(tokens, device=self.base.device) if tokens is not None and self.chooses_tokens else None
        return Asked.of(self.base, places, chosen)

    def _chosen(self, logits: Tensor, tokens: Sequence[int] | None) -> Tensor:
        return logits if tokens is None or self.chooses_tokens else logits[:, list(tokens)]

    def _plain(
        self,
        prompts: Prompts,
        of: Sequence[int],
        rows: Sequence[int],
        targets: Sequence[Sequence[int]],
        tokens: Sequence[int] | None,
    ) -> Tensor:
        each = prompts.vectors.split(list(prompts.lengths))
        found = []
        for k, i, target in zip(of, rows, targets, strict=True):
            found += plain_target_logits(self.base, each[k], self.position, [Row(self.inputs[i], tuple(target))])
        logits = torch.cat(found)
        return logits if tokens is None else logits[:, list(tokens)]


_found: weakref.WeakKeyDictionary[BaseModel, dict[str, tuple[str | None, bool]]] = weakref.WeakKeyDictionary()
# What a model library's code raises where an architecture cannot take our cache or our head; anything else is a bug of ours.
_REFUSALS = (RuntimeError, TypeError, ValueError, AttributeError, LookupError)


def _abilities(base: BaseModel, position: str) -> tuple[str | None, bool]:
    """Why the fast path of this model cannot be used (None: it can), and whether logits of chosen tokens alone can be had."""
    known = _found.setdefault(base, {})
    if position not in known:
        known[position] = _compare(base, position)
    return known[position]


def _compare(base: BaseModel, position: str) -> tuple[str | None, bool]:
    """Run a few short rows of two prompts of different lengths on the fast and on the plain path."""
    if base.model.get_output_embeddings() is None:
        return "the model names no output layer", False
    head.prepare(base)
    top = min(base.model.config.get_text_config().vocab_size, 1000)
    some = [7 * i % (top - 10) + 5 for i in range(1, 14)]
    inputs = [tuple(some[:9]), tuple(some[4:7]), tuple(some[3:8])]
    targets = [(some[2],), (some[9], some[10], some[1]), (some[5],)]
    of, tokens = [0, 1, 0], sorted({*some[:6], *(t for target in targets for t in target)})
    with torch.no_grad():
        vectors = base.embed(torch.tensor(some[2:9])).float()
        prompts = Prompts.ready(base, position, [vectors[:4], vectors[4:]])
        engine = Engine.__new__(Engine)  # one that is not checked, or this would not end
        engine.base, engine.position, engine.inputs, engine.reason, engine.chooses_tokens = base, position, inputs, None, False
        engine.contexts = ContextCache(base, inputs, 1) if base.kind == "causal" and position == "suffix" else None
        wanted = engine._plain(prompts, of, [0, 1, 2], targets, None)

        def off(got: Tensor, like: Tensor) -> str | None:
            # Half-precision models differ by rounding alone; float32 must agree closely.
            allowed = 1e-3 if base.dtype == torch.float32 else 5e-2
            difference = float((got - like).abs().max() / like.abs().max().clamp(min=1e-6))
            return None if difference <= allowed else f"batched and plain logits differ by {difference:.1e}"

        try:
            reason = off(engine.target_logits(prompts, of, [0, 1, 2], targets), wanted)
            if base.kind == "causal" and not reason:
                first, memory = engine.state(prompts, of, [0, 1, 2])
                further = engine.go_on(memory.take([1]), [targets[1][:-1]], [(0, 0), (0, 1)])
                reason = off(torch.cat([first[1:2], further]), wanted[1:4])
        except _REFUSALS as error:
            reason = f"this architecture refuses the cached path ({type(error).__name__}: {error})"
        if reason or not head.can_choose_tokens(base):
            return reason, False
        engine.chooses_tokens = True
        try:
            return None, off(engine.target_logits(prompts, of, [0, 1, 2], targets, tokens), wanted[:, tokens]) is None
        except _REFUSALS:  # BART adds a bias of the whole vocabulary behind its output layer
            return None, False
