"""What an evaluation found: figures by system, differences with p-values, and where they ran."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from rerank_plugins.evaluation.measures import Values
from rerank_plugins.evaluation.resume import QueryTime
from rerank_plugins.evaluation.significance import holm, randomisation_test
from rerank_plugins.terminal import harmless
from rerank_plugins.written_files import whole_file

__all__ = ["FIRST_STAGE", "Comparison", "Report", "Speed", "System", "compared", "environment"]

FIRST_STAGE = "first stage"
_PACKAGES = ("rerank_plugins", "torch", "transformers", "tokenizers", "ir_measures", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Passages a second over all queries, and how long a query of up to ``depth`` passages takes.

    One query at a time, its texts in and its ranking out: what a user waits for. Reading the
    passages from the corpus is not part of it.
    """

    docs_per_s: float
    p50_ms: float
    p99_ms: float
    n_pairs: int
    seconds: float

    @classmethod
    def of(cls, times: Sequence[QueryTime]) -> Speed:
        """Return the speed that these queries show."""
        n_pairs, seconds = sum(row.n_pairs for row in times), sum(row.seconds for row in times)
        p50, p99 = np.percentile([row.seconds * 1000.0 for row in times], [50, 99])
        return cls(
            docs_per_s=n_pairs / seconds,
            p50_ms=float(p50),
            p99_ms=float(p99),
            n_pairs=n_pairs,
            seconds=seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One row of the table: the first stage, a model, or a model with the first stage added."""

    name: str
    figures: dict[str, float]
    values: Values = field(repr=False)
    run_path: str
    speed: Speed | None = None
    first_stage_weights: tuple[float, float] | None = None
    dtype: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """``system`` against ``baseline`` in one measure; ``p_holm`` may be held against 0.05."""

    measure: str
    system: str
    baseline: str
    difference: float
    p: float
    p_holm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole result. ``systems`` begins with the first stage."""

    queries: int
    queries_without_candidates: int
    queries_without_judgements: int
    depth: int
    measures: list[str]
    systems: list[System]
    comparisons: list[Comparison]
    environment: dict[str, object]

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the per-query values as plain data, for JSON."""
        data = asdict(self)
        for system in data["systems"]:
            del system["values"]
        return data

    def write_values(self, path: Path) -> None:
        """Write the per-query values: a line ``system, measure, query_id, value`` each, as TSV."""
        with whole_file(path) as file:
            file.write(b"system\tmeasure\tquery_id\tvalue\n")
            for system in self.systems:
                for measure, values in system.values.items():
                    for query_id, value in values.items():
                        row = f"{system.name}\t{measure}\t{query_id}\t{value!r}\n"
                        file.write(row.encode())

    def table(self) -> Table:
        """Return the table of all systems, the first stage first."""
        against = {
            (row.system, row.measure): row
            for row in self.comparisons
            if row.baseline == FIRST_STAGE
        }
        table = Table(caption=self.caption(), caption_justify="left")
        table.add_column("system", overflow="fold")
        for measure in self.measures:
            table.add_column(measure, justify="right")
            table.add_column("change (p)", justify="right")
        for name in ("docs/s", "p50 ms", "p99 ms"):
            table.add_column(name, justify="right")
        for system in self.systems:
            cells = []
            for measure in self.measures:
                change = against.get((system.name, measure))
                cells += [f"{system.figures[measure]:.4f}", _change(change) if change else ""]
            speed = system.speed
            cells += (
                [f"{speed.docs_per_s:,.0f}", f"{speed.p50_ms:.1f}", f"{speed.p99_ms:.1f}"]
                if speed
                else ["", "", ""]
            )
            table.add_row(harmless(system.name), *cells)
        return table

    def models_table(self) -> Table | None:
        """Return the table of models against each other; None for a single one."""
        rows = [row for row in self.comparisons if row.baseline != FIRST_STAGE]
        if not rows:
            return None
        table = Table(caption="p: paired randomisation test, Holm over the rows of a measure")
        for name in ("measure", "system", "against", "difference", "p"):
            table.add_column(name, justify="right" if name in ("difference", "p") else "left")
        for row in rows:
            table.add_row(
                row.measure,
                harmless(row.system),
                harmless(row.baseline),
                f"{row.difference:+.4f}",
                _p(row.p_holm),
            )
        return table

    def caption(self) -> str:
        """Return what the figures are of."""
        lines = [
            f"{self.queries} judged queries, {self.depth} candidates a query at most; "
            "documents without judgement count as not relevant."
        ]
        if self.queries_without_candidates:
            lines.append(
                f"{self.queries_without_candidates} judged queries have no candidates and count 0."
            )
        if self.queries_without_judgements:
            lines.append(
                f"{self.queries_without_judgements} queries of the run are not judged: left out."
            )
        if self.comparisons:
            lines.append(
                "Change and p: against the first stage, paired randomisation test"
                + (", Holm over the models." if len(self.systems) > 2 else ".")
            )
        lines += [
            f"{harmless(system.name)}: first-stage weights {system.first_stage_weights[0]:g} and "
            f"{system.first_stage_weights[1]:g}, each fitted on the other half of the queries."
            for system in self.systems
            if system.first_stage_weights
        ]
        return "\n".join(lines)


def compared(systems: Sequence[System], measures: Sequence[str]) -> list[Comparison]:
    """Compare every model with the first stage, and the models with each other.

    Holm's correction is over the systems compared with the first stage in one measure, and
    separately over the pairs of models in one measure.
    """
    first, *models = systems
    comparisons = []
    for measure in measures:
        for family in ([(model, first) for model in models], list(combinations(models, 2))):
            p_values = [
                randomisation_test(system.values[measure], baseline.values[measure])
                for system, baseline in family
            ]
            for (system, baseline), p, p_holm in zip(family, p_values, holm(p_values), strict=True):
                comparisons.append(
                    Comparison(
                        measure=measure,
                        system=system.name,
                        baseline=baseline.name,
                        difference=system.figures[measure] - baseline.figures[measure],
                        p=p,
                        p_holm=p_holm,
                    )
                )
    return comparisons


def environment() -> dict[str, object]:
    """Return what speed depends on: processor, cores, Python and packages."""
    versions: dict[str, object] = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "processor": _processor(),
        "cpu_cores": os.cpu_count(),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": versions,
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _change(row: Comparison) -> str:
    return f"{row.difference:+.4f} ({_p(row.p_holm)})"


def _p(p_value: float) -> str:
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"
