"""Measure a reranker on your own data: runs and qrels in, ir_measures' figures out.

``rerank-plugins evaluate --help`` says how to do it from the command line. In Python::

    from rerank_plugins import shared_scorer
    from rerank_plugins.evaluation import evaluate, read_collection

    collection = read_collection(
        corpus="corpus.jsonl", queries="queries.jsonl", qrels="qrels.txt", run="bm25.run"
    )
    report = evaluate([shared_scorer("embedded")], collection, output="evaluation")
    report.systems[1].figures["nDCG@10"]
"""

from rerank_plugins.errors import require_extra

require_extra("ir_measures", extra="evaluation", purpose="evaluation")

# The order matters: what needs ir_measures is imported once it is known to be there.
from rerank_plugins.evaluation.collection import (  # noqa: E402
    Collection,
    read_collection,
    read_dataset,
)
from rerank_plugins.evaluation.evaluate import evaluate  # noqa: E402
from rerank_plugins.evaluation.measures import (  # noqa: E402
    DEFAULT_MEASURES,
    mean_values,
    parse_measures,
)
from rerank_plugins.evaluation.report import Report, System  # noqa: E402
from rerank_plugins.evaluation.rerank import rerank_run, rerank_to_file  # noqa: E402
from rerank_plugins.evaluation.significance import holm, randomisation_test  # noqa: E402
from rerank_plugins.evaluation.threshold import FittedThreshold, fit_threshold  # noqa: E402
from rerank_plugins.evaluation.training import TrainingLists, training_lists  # noqa: E402
from rerank_plugins.evaluation.trec import TrecRun, read_qrels  # noqa: E402
from rerank_plugins.progress import Progress  # noqa: E402
from rerank_plugins.shards import Shard  # noqa: E402

__all__ = [
    "DEFAULT_MEASURES",
    "Collection",
    "FittedThreshold",
    "Progress",
    "Report",
    "Shard",
    "System",
    "TrainingLists",
    "TrecRun",
    "evaluate",
    "fit_threshold",
    "holm",
    "mean_values",
    "parse_measures",
    "randomisation_test",
    "read_collection",
    "read_dataset",
    "read_qrels",
    "rerank_run",
    "rerank_to_file",
    "training_lists",
]
