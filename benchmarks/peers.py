"""Prompt tuning as most people do it: PEFT with the Hugging Face Trainer, and PEFT in a hand-written loop.

Same weights (the very same model object), rows, initial prompt, AdamW, schedule, clipping and number of steps as our side.
Batches are padded to their longest row. Nothing is logged, saved or evaluated. PEFT knows prefix prompts only.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Stopwatch
from benchmarks.shapes import Example, Recipe


def with_trainer(
    model: Any,
    examples: Sequence[Example],
    start: Tensor,
    recipe: Recipe,
    watch: Stopwatch,
    batches: Sequence[Sequence[int]] | None = None,
) -> Tensor:
    """PEFT and ``transformers.Trainer`` with its own shuffled batches, or with the given ones; returns the prompt ``[P, H]``."""
    from transformers import PrinterCallback, Trainer, TrainingArguments

    class Watched(Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
            self.last_loss = super().training_step(*args, **kwargs)
            return self.last_loss

        def get_train_dataloader(self) -> Any:
            if batches is None:
                return super().get_train_dataloader()
            loader = torch.utils.data.DataLoader(self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator)
            return self.accelerator.prepare(loader)

    wrapped, prompt, optimizer = _wrap(model, start, recipe)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=recipe.steps,
            per_device_train_batch_size=recipe.batch_size,
            max_grad_norm=recipe.max_grad_norm,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            label_names=["labels"],
            use_cpu=model.device.type == "cpu",
            seed=recipe.seed,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: recipe.rate(step) / recipe.learning_rate)
        trainer = Watched(
            model=wrapped,
            args=arguments,
            train_dataset=list(examples),
            data_collator=_collator(model),
            optimizers=(optimizer, schedule),
        )
        trainer.remove_callback(PrinterCallback)  # it prints a line at the end
        trainer.add_callback(_ending(watch, trainer))
        trainer.train()
    model.eval()
    return prompt.detach().float().cpu().clone()


def by_hand(
    model: Any,
    examples: Sequence[Example],
    start: Tensor,
    recipe: Recipe,
    watch: Stopwatch,
    batches: Sequence[Sequence[int]] | None = None,
) -> Tensor:
    """PEFT in the shortest loop that does the same; returns the prompt ``[P, H]``."""
    wrapped, prompt, optimizer = _wrap(model, start, recipe)
    collate = _collator(model)
    order = iter(batches) if batches is not None else _shuffled(len(examples), recipe)
    for step in range(recipe.steps):
        batch = {name: value.to(model.device) for name, value in collate([examples[i] for i in next(order)]).items()}
        loss = wrapped(**batch).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([prompt], recipe.max_grad_norm)
        optimizer.param_groups[0]["lr"] = recipe.rate(step)
        optimizer.step()
        watch.step(loss.detach())
    return prompt.detach().float().cpu().clone()


def _wrap(model: Any, start: Tensor, recipe: Recipe) -> tuple[Any, torch.nn.Parameter, torch.optim.Optimizer]:
    import peft

    config = peft.PromptTuningConfig(
        task_type="SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM",
        num_virtual_tokens=len(start),
        num_transformer_submodules=1,  # PEFT would add a second half for the decoder, which it never uses
    )
    wrapped = peft.get_peft_model(model, config)
    prompt = wrapped.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        prompt.copy_(start)
    optimizer = torch.optim.AdamW([prompt], lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay)
    return wrapped, prompt, optimizer


def _collator(model: Any) -> Any:
    """Pads a batch on the right to its longest row; labels are -100 everywhere but at the target."""
    seq2seq = model.config.is_encoder_decoder

    def collate(rows: Sequence[Example]) -> dict[str, Tensor]:
        texts = [row.input_ids if seq2seq else (*row.input_ids, row.target) for row in rows]
        width = max(len(text) for text in texts)
        pads = [width - len(text) for text in texts]
        ids = torch.tensor([[*text, *[0] * pad] for text, pad in zip(texts, pads, strict=True)])
        mask = torch.tensor([[1] * len(text) + [0] * pad for text, pad in zip(texts, pads, strict=True)])
        if seq2seq:
            labels = torch.tensor([[row.target] for row in rows])
        else:
            labels = torch.tensor(
                [[-100] * (len(text) - 1) + [text[-1]] + [-100] * pad for text, pad in zip(texts, pads, strict=True)]
            )
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    return collate


def _ending(watch: Stopwatch, trainer: Any) -> Any:
    from transformers import TrainerCallback

    class Ending(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            watch.step(trainer.last_loss)

    return Ending()


def _shuffled(count: int, recipe: Recipe) -> Iterator[list[int]]:
    random = torch.Generator().manual_seed(recipe.seed)
    while True:
        order = torch.randperm(count, generator=random).tolist()
        yield from (order[i : i + recipe.batch_size] for i in range(0, count, recipe.batch_size))
