"""Train the bundled base model from raw text: ``python -m benchmarks.bundled_base.build --corpora DIR --out DIR``.

The bundled base exists so that the software works without any download: it is a small Llama-shaped causal
language model, good enough that a soft prompt has something to steer, and no more. The steps are

    *.txt.xz  →  byte-level BPE tokenizer  →  one array of token ids  →  training  →  bf16 safetensors + model card

Training is resumable (``checkpoint.pt`` in the work folder) and is bounded by *minutes of training time*, because the
machine that builds the base may be slow or busy; the card records what was really done. Hidden matrices are trained with
Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/), which its authors report to need fewer tokens than AdamW
(not compared here); embeddings and norms with AdamW.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.bundled_base.card import write_card

END = "<|endoftext|>"
PAD = "<|pad|>"


@dataclass(frozen=True)
class Source:
    """One corpus: file name, how often its documents are repeated in an epoch, and the licence named in the card."""

    file: str
    repeats: int
    title: str
    licence: str


# Only text whose licence clearly allows any use. Modern text is scarce among it, so it is repeated; the novels fill the rest.
SOURCES = (
    Source("eltec_english_novels.txt.xz", 1, "ELTeC English novel collection (99 novels)", "public domain"),
    Source("masc.txt.xz", 4, "MASC, Manually Annotated Sub-Corpus of the American National Corpus", "free for any use"),
    Source("nltk_state_union.txt.xz", 2, "State of the Union addresses", "public domain"),
    Source("nltk_inaugural.txt.xz", 1, "US presidential inaugural addresses", "public domain"),
    Source("tinyshakespeare.txt.xz", 1, "Plays of William Shakespeare", "public domain"),
    Source("clinc_wiki_sents.txt.xz", 4, "Wikipedia sentences of the CLINC150 repository", "CC BY 3.0"),
)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights besides the text. Lengths are in tokens."""

    vocab_size: int = 6144
    hidden_size: int = 256
    intermediate_size: int = 688
    layers: int = 4
    heads: int = 4
    context: int = 512
    train_length: int = 256
    long_from: float = 0.88  # from this share of training on, sequences of the full context
    tokens_per_step: int = 4096
    muon_lr: float = 0.02
    adam_lr: float = 0.004
    warmup_steps: int = 40
    decay_from: float = 0.5  # linear decay to zero from this share of training on
    lowercase_share: float = 0.2  # many classification sets are lower-cased; the base should know such text
    seed: int = 0


def read_documents(corpora: Path) -> tuple[list[str], list[str], dict[str, int]]:
    """Return (training documents, held-out documents, characters per file). Every 50th paragraph group is held out."""
    train: list[str] = []
    held_out: list[str] = []
    sizes: dict[str, int] = {}
    for source in SOURCES:
        with lzma.open(corpora / source.file, "rt", encoding="utf-8") as file:
            text = file.read()
        sizes[source.file] = len(text)
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        documents, current, length = [], [], 0
        for line in lines:  # documents of about 2,000 characters, so that shuffling mixes the sources
            current.append(line)
            length += len(line)
            if length > 2000:
                documents.append("\n".join(current))
                current, length = [], 0
        if current:
            documents.append("\n".join(current))
        held_out += documents[::50]
        train += [d for i, d in enumerate(documents) if i % 50] * source.repeats
    return train, held_out, sizes


def train_tokenizer(documents: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with digits split one by one; any byte sequence can be encoded."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    # Every training document begins with the end token, so every input does too.
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END} $A", pair=f"{END} $A $B", special_tokens=[(END, tokenizer.token_to_id(END))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=PAD, model_max_length=Recipe.context
    )


def lower_some(documents: list[str], share: float, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [d.lower() if rng.random() < share else d for d in documents]


def encode(tokenizer: PreTrainedTokenizerFast, documents: list[str], seed: int) -> np.ndarray:
    """Shuffle and concatenate: [end] doc [end] doc … as uint16 ids of shape [tokens]."""
    documents = list(documents)
    random.Random(seed).shuffle(documents)
    end = tokenizer.convert_tokens_to_ids(END)
    ids: list[np.ndarray] = []
    for start in range(0, len(documents), 2000):
        for row in tokenizer(documents[start : start + 2000], add_special_tokens=False)["input_ids"]:
            ids.append(np.asarray([end, *row], dtype=np.uint16))
    return np.concatenate(ids)


class Muon:
    """Momentum whose matrix update is orthogonalised by Newton–Schulz iterations, in float32 (CPUs lack fast bf16)."""

    def __init__(self, parameters: list[torch.nn.Parameter], momentum: float = 0.95) -> None:
        self.parameters, self.momentum = parameters, momentum
        self.buffers = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        for p, buffer in zip(self.parameters, self.buffers, strict=True):
            if p.grad is None:
                continue
            buffer.lerp_(p.grad, 1 - self.momentum)
            update = p.grad.lerp(buffer, self.momentum)
            transposed = update.shape[0] > update.shape[1]
            x = update.T if transposed else update
            x = x / (x.norm() + 1e-7)
            for _ in range(5):
                a = x @ x.T
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
            x = x.T if transposed else x
            p.add_(x, alpha=-lr * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, ids: np.ndarray, length: int, batches: int = 6) -> float:
    """Mean next-token loss (nats) on the held-out documents."""
    model.eval()
    losses = []
    for b in range(batches):
        chunk = ids[b * 8 * length : (b + 1) * 8 * length]
        batch = torch.from_numpy(chunk.astype(np.int64)).view(8, length)
        losses.append(model(input_ids=batch, labels=batch).loss.item())
    model.train()
    return sum(losses) / len(losses)


def build(corpora: Path, out: Path, work: Path, minutes: float, recipe: Recipe) -> None:
    """Train and write ``out`` (config, bf16 safetensors, tokenizer, README.md, loss curve). Resumes from ``work``."""
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    documents, held_out, sizes = read_documents(corpora)
    if not (work / "tokens.npy").exists():
        tokenizer = train_tokenizer(random.Random(recipe.seed).sample(documents, min(16000, len(documents))), recipe.vocab_size)
        tokenizer.save_pretrained(work / "tokenizer")
        np.save(work / "tokens.npy", encode(tokenizer, lower_some(documents, recipe.lowercase_share, recipe.seed), recipe.seed))
        np.save(work / "held_out.npy", encode(tokenizer, held_out, recipe.seed))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "tokenizer")
    tokens, validation = np.load(work / "tokens.npy"), np.load(work / "held_out.npy")

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    muon = Muon(matrices)
    adam = torch.optim.AdamW(others, lr=recipe.adam_lr, betas=(0.9, 0.95), weight_decay=0.0)

    step, cursor, trained, spent = 0, 0, 0, 0.0
    curve: list[dict[str, float]] = []
    checkpoint = work / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        adam.load_state_dict(state["adam"])
        muon.buffers = state["muon"]
        step, cursor, trained, spent, curve = (state[k] for k in ("step", "cursor", "trained", "spent", "curve"))

    def save() -> None:
        state = dict(model=model.state_dict(), adam=adam.state_dict(), muon=muon.buffers, step=step, cursor=cursor)
        torch.save({**state, "trained": trained, "spent": spent, "curve": curve}, checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").replace(checkpoint)

    started, running, last_save = time.monotonic() - spent, 0.0, time.monotonic()
    model.train()
    while spent < minutes * 60:
        progress = spent / (minutes * 60)
        length = recipe.context if progress >= recipe.long_from else recipe.train_length
        rows = recipe.tokens_per_step // length
        if cursor + rows * length > len(tokens):
            cursor = 0
        batch = torch.from_numpy(tokens[cursor : cursor + rows * length].astype(np.int64)).view(rows, length)
        cursor += rows * length
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        scale = min(1.0, (step + 1) / recipe.warmup_steps, (1 - progress) / (1 - recipe.decay_from))
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        muon.step(recipe.muon_lr * scale)
        for group in adam.param_groups:
            group["lr"] = recipe.adam_lr * scale
        adam.step()
        model.zero_grad(set_to_none=True)
        step, trained, spent = step + 1, trained + rows * length, time.monotonic() - started
        running = loss.item() if step == 1 else 0.95 * running + 0.05 * loss.item()
        if not math.isfinite(running):
            raise SystemExit(f"loss is not finite at step {step}: lower the learning rates of the recipe")
        if step % 20 == 0:
            print(f"step {step} loss {running:.3f} {spent / 60:.1f}/{minutes} min {trained / spent:.0f} tokens/s", flush=True)
        if step % 100 == 0:
            curve.append(dict(step=step, tokens=trained, train=running, held_out=held_out_loss(model, validation, 256)))
            print(f"step {step} held-out loss {curve[-1]['held_out']:.3f}", flush=True)
        if time.monotonic() - last_save > 180:
            save()
            last_save = time.monotonic()
    if not curve or curve[-1]["step"] != step:
        curve.append(dict(step=step, tokens=trained, train=running, held_out=held_out_loss(model, validation, 256)))
    save()

    out.mkdir(parents=True, exist_ok=True)
    model.bfloat16().save_pretrained(out)
    tokenizer.save_pretrained(out)
    facts = dict(recipe=asdict(recipe), steps=step, tokens=trained, minutes=round(spent / 60, 1), curve=curve)
    facts |= dict(parameters=sum(p.numel() for p in model.parameters()), sources=[asdict(s) for s in SOURCES], characters=sizes)
    (out / "training.json").write_text(json.dumps(facts, indent=1) + "\n")
    write_card(out, facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpora", type=Path, required=True, help="folder with the .txt.xz files named in SOURCES")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "model")
    parser.add_argument("--work", type=Path, default=Path("build/bundled-base"), help="tokens and checkpoints; safe to delete")
    parser.add_argument("--minutes", type=float, default=75)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    build(arguments.corpora, arguments.out, arguments.work, arguments.minutes, Recipe())


if __name__ == "__main__":
    main()
