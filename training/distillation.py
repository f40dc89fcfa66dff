"""Distillation: the student learns the teachers' order of each list."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertForSequenceClassification

from training.lists import Lists
from training.student import Ids, TokenStore, score_pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how hard to train: so many lists, or fewer if ``minutes`` are over before.

    The rate decays to zero either way.

    ``long_share`` of the steps read ``long_length`` tokens a pair, the others ``max_length``. In
    ``stretched_share`` of the steps every passage has another one before or after it, so that the
    answer is found anywhere in a longer text.
    """

    lists: int = 85_000
    minutes: float | None = None
    lists_per_step: int = 16
    learning_rate: float = 1e-3
    warm_up: float = 0.03
    weight_decay: float = 0.01
    embedding_rate: float = 0.2
    max_length: int = 128
    long_length: int = 256
    long_share: float = 0.3
    stretched_share: float = 0.1
    offset_share: float = 0.3
    own_passage_weight: float = 0.3
    average_steps: int = 400
    tokens_at_once: int = 8_192
    bfloat16: bool = True
    seed: int = 0

    def done(self, step: int, seconds: float) -> float:
        """Return what share of the run is over after ``step`` steps and some seconds."""
        share = step / max(1, self.lists // self.lists_per_step)
        return share if self.minutes is None else max(share, seconds / (60 * self.minutes))

    def rate(self, progress: float) -> float:
        """Return the learning rate after ``progress`` (0 to 1) of the run.

        >>> schedule = Schedule(lists=1, learning_rate=1.0, warm_up=0.5)
        >>> [schedule.rate(progress) for progress in (0.25, 0.5, 0.75, 1.0)]
        [0.5, 1.0, 0.5, 0.0]
        """
        if progress < self.warm_up:
            return self.learning_rate * progress / self.warm_up
        return self.learning_rate * max(0.0, (1 - progress) / (1 - self.warm_up))


def list_loss(
    scores: Tensor, targets: Tensor, *, own_passage_weight: float, own: Tensor | None = None
) -> Tensor:
    """Return the loss of lists (n_lists, size) whose own passage is column 0 where ``own`` is 1.

    The KL divergence from the teachers' distribution over the list, and a little cross-entropy
    on the passage that the query was made from, which the teachers do not know.

    >>> same = torch.tensor([[1.0, 2.0]])
    >>> list_loss(same, same, own_passage_weight=0.0).item()
    0.0
    """
    log_student = F.log_softmax(scores, dim=-1)
    log_teacher = F.log_softmax(targets, dim=-1)
    divergence = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    if own_passage_weight == 0.0:
        return divergence
    first = log_student[:, 0] if own is None else own * log_student[:, 0]
    return divergence - own_passage_weight * first.mean()


def list_order(n_lists: int, *, seed: int) -> Iterator[np.ndarray]:
    """Yield row numbers for ever, each pass over the lists in a new order."""
    rng = np.random.default_rng(seed)
    while True:
        yield from rng.permutation(n_lists)[:, None]


def stretched_pairs(
    pairs: Sequence[tuple[Ids, Ids]], rng: np.random.Generator
) -> list[tuple[Ids, Ids]]:
    """Return the pairs with another pair's passage before or after each passage."""
    others = rng.integers(len(pairs), size=len(pairs))
    before = rng.random(len(pairs)) < 0.5
    return [
        (query, np.concatenate([pairs[other][1], own] if first else [own, pairs[other][1]]))
        for (query, own), other, first in zip(pairs, others, before, strict=True)
    ]


class WeightAverage:
    """A running mean of the weights, which is steadier than the weights at a high rate."""

    def __init__(self, student: BertForSequenceClassification, *, steps: int) -> None:
        self.student = copy.deepcopy(student)
        self.student.requires_grad_(requires_grad=False)
        self._steps = steps
        self._seen = 0

    @torch.no_grad()
    def update(self, student: BertForSequenceClassification) -> None:
        self._seen += 1
        # Over fewer steps at first, so that the untrained start fades.
        share = 1 / min(self._steps, 1 + self._seen / 5)
        torch._foreach_lerp_(list(self.student.parameters()), list(student.parameters()), share)


def parameter_groups(
    student: BertForSequenceClassification, schedule: Schedule
) -> list[dict[str, Any]]:
    """Return the token embeddings, and the rest, as the optimizer takes them.

    Most tokens are seldom seen here, and their embeddings come from far more text than this: they
    learn at ``embedding_rate`` of the rate, not at all where that is 0, and nothing decays them.
    """
    tokens = student.bert.embeddings.word_embeddings.weight
    tokens.requires_grad = schedule.embedding_rate > 0
    rest = [parameter for parameter in student.parameters() if parameter is not tokens]
    return [
        {"params": [tokens], "lr": 0.0, "share": schedule.embedding_rate, "weight_decay": 0.0},
        {"params": rest, "lr": 0.0, "share": 1.0, "weight_decay": schedule.weight_decay},
    ]


@torch.no_grad()
def mean_student(
    students: Sequence[BertForSequenceClassification],
) -> BertForSequenceClassification:
    """Return the mean of the weights of students that had one start.

    On unseen text it agrees better with the teachers than any of them ("model soups", Wortsman et
    al., 2022): what each has learned by heart differs, what they have in common stays.
    """
    mean = copy.deepcopy(students[0])
    for target, *sources in zip(*(each.parameters() for each in (mean, *students)), strict=True):
        target.copy_(torch.stack(sources).mean(dim=0))
    return mean


@dataclass(slots=True)
class Checkpoint:
    """What a run needs to go on after an interruption."""

    path: Path

    def save(self, step: int, seconds: float, **states: object) -> None:
        partial = self.path.with_suffix(".partial")
        torch.save({"step": step, "seconds": seconds, **states}, partial)
        partial.rename(self.path)


def train(
    student: BertForSequenceClassification,
    lists: Lists,
    queries: TokenStore,
    passages: TokenStore,
    *,
    schedule: Schedule,
    folder: Path,
    validate: Callable[[BertForSequenceClassification], dict[str, float]],
    validate_every_s: float = 300.0,
    progress: Callable[[float, float], None] | None = None,
) -> BertForSequenceClassification:
    """Return the averaged student after the whole schedule; go on where a former run stopped.

    ``folder`` gets ``checkpoint.pt`` and ``log.jsonl``; ``progress`` hears what share is done, and
    the loss of the step.
    """
    torch.manual_seed(schedule.seed)
    rng = np.random.default_rng(schedule.seed)
    optimizer = torch.optim.AdamW(
        parameter_groups(student, schedule), betas=(0.9, 0.98), fused=True
    )
    average = WeightAverage(student, steps=schedule.average_steps)
    checkpoint = Checkpoint(folder / "checkpoint.pt")
    step, seconds = 0, 0.0
    if checkpoint.path.exists():
        saved = torch.load(checkpoint.path, weights_only=True, map_location=student.device)
        student.load_state_dict(saved["student"])
        average.student.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        step, seconds = saved["step"], saved["seconds"]
    order = list_order(len(lists), seed=schedule.seed + step)
    started, last_validated = time.monotonic() - seconds, time.monotonic()
    losses: list[float] = []

    def keep() -> None:
        figures = {
            "step": step,
            "lists": step * schedule.lists_per_step,
            "seconds": round(seconds, 1),
            "loss": round(float(np.mean(losses[-200:])), 4),
            **validate(average.student),
        }
        with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(figures) + "\n")
        checkpoint.save(
            step,
            seconds,
            student=student.state_dict(),
            average=average.student.state_dict(),
            optimizer=optimizer.state_dict(),
        )

    while True:
        seconds = time.monotonic() - started
        done = schedule.done(step, seconds)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = group["share"] * schedule.rate(done)
        rows = np.concatenate([next(order) for _ in range(schedule.lists_per_step)])
        batch = lists[rows]
        stretched = rng.random() < schedule.stretched_share
        long = stretched or rng.random() < schedule.long_share
        pairs = [
            (queries[int(query)], passages[int(candidate)])
            for query, candidates in zip(batch.query, batch.candidates, strict=True)
            for candidate in candidates
        ]
        if stretched:
            pairs = stretched_pairs(pairs, rng)
        offsets = [
            int(rng.integers(1, 384)) if rng.random() < schedule.offset_share else 0
            for _ in range(8)
        ]
        kind = student.device.type
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=schedule.bfloat16):
            scores = score_pairs(
                student,
                pairs,
                max_length=schedule.long_length if long else schedule.max_length,
                offsets=offsets,
                tokens_at_once=schedule.tokens_at_once,
            )
        loss = list_loss(
            scores.view(batch.targets.shape),
            torch.from_numpy(batch.targets).to(student.device),
            own_passage_weight=schedule.own_passage_weight,
            own=torch.from_numpy(batch.own).to(student.device),
        )
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        average.update(student)
        step += 1
        losses.append(loss.item())
        if progress is not None:
            progress(done, losses[-1])
        if time.monotonic() - last_validated > validate_every_s or step == 1:
            keep()
            last_validated = time.monotonic()
    if losses:
        keep()
    return average.student
