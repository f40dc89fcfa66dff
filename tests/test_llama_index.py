"""The LlamaIndex adapter: the contract, what models may read, and the engine it is used in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager, EventPayload
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import (
    Document,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeWithScore,
    QueryBundle,
    TextNode,
)

from rerank_plugins import interpolate
from rerank_plugins.errors import InvalidArgumentError
from rerank_plugins.llama_index import CrossEncoderRerank
from rerank_plugins.testing import FailingScorer, FakeScorer
from rerank_plugins.testing.contract import BEST_FIRST, QUERY, SCORES
from rerank_plugins.testing.llama_index import (
    PostprocessorTests,
    RecordingCallbacks,
    recorded_events,
)

CANDIDATES: Callable[..., list[NodeWithScore]] = PostprocessorTests.candidates
NODES = CANDIDATES(None, list(SCORES))


class FirstStage(BaseRetriever):
    """Finds all nodes for every query."""

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return NODES


class TruncatingScorer(FakeScorer):
    def truncated(self, query: str, passages: list[str]) -> list[bool]:
        return [len(passage) > 4 for passage in passages]


class TestContract(PostprocessorTests):
    def make(self, scorer: Any, **settings: Any) -> CrossEncoderRerank:
        return CrossEncoderRerank(scorer=scorer, **settings)


def rerank(nodes: list[NodeWithScore], scorer: Any = None, **settings: Any) -> list[NodeWithScore]:
    scorer = scorer or FakeScorer(SCORES)
    return CrossEncoderRerank(scorer=scorer, **settings).postprocess_nodes(nodes, query_str=QUERY)


def test_default_is_two_nodes() -> None:
    assert [one.text for one in rerank(NODES)] == BEST_FIRST[:2]


def test_the_nodes_that_come_back_are_equal_and_not_the_same_objects() -> None:
    kept = rerank(NODES, top_n=4)
    assert {one.node.hash for one in kept} == {one.node.hash for one in NODES}
    assert not {id(one.node) for one in kept} & {id(one.node) for one in NODES}


def test_kinds_of_nodes_are_kept() -> None:
    class Provenance(NodeWithScore):
        retriever: str = "bm25"

    nodes: list[NodeWithScore] = [
        Provenance(node=IndexNode(text="alpha", index_id="i", obj={"a": 1}), score=1.0),
        Provenance(node=Document(text="beta", id_="d"), retriever="dense"),
    ]
    kept = rerank(nodes, keep_retrieval_score=True)
    assert [type(one) for one in kept] == [Provenance, Provenance]
    assert [one.retriever for one in kept] == ["dense", "bm25"]  # type: ignore[attr-defined]
    assert (type(kept[0].node), kept[0].node_id) == (Document, "d")
    assert "retrieval_score" not in kept[0].metadata  # it came with none
    assert kept[1].node.obj == {"a": 1}  # type: ignore[attr-defined]


class TestNodesWithoutText:
    IMAGE = NodeWithScore(
        node=ImageNode(image_path="cat.png", metadata={"file": "cat.png"}, id_="img"), score=0.9
    )
    MULTIMODAL = NodeWithScore(node=Node(image_resource=MediaResource(data=b"png"), id_="mm"))

    def ids(self, kept: list[NodeWithScore]) -> list[str]:
        return [one.node_id for one in kept]

    def test_it_comes_behind_the_ranked_ones_without_a_score(self) -> None:
        given = [self.IMAGE, *NODES, self.MULTIMODAL]
        scorer = FakeScorer(SCORES)
        kept = rerank(given, scorer, keep_retrieval_score=True, score_threshold=1.0, top_n=9)
        best = [one.node_id for one in NODES if SCORES[one.text] >= 1.0]
        assert self.ids(kept) == [*best, "img", "mm"]
        assert [one.score for one in kept[-2:]] == [None, None]
        assert kept[-2].metadata == {"file": "cat.png", "retrieval_score": 0.9}
        assert len(scorer.calls[0][2]) == len(NODES)
        assert (self.IMAGE.score, self.IMAGE.node.metadata) == (0.9, {"file": "cat.png"})

    def test_it_counts_for_top_n(self) -> None:
        given = [self.IMAGE, NODES[0], self.MULTIMODAL]
        assert self.ids(rerank(given, top_n=2)) == [NODES[0].node_id, "img"]
        assert self.ids(rerank(given, top_n=1)) == [NODES[0].node_id]

    def test_nothing_but_images_asks_no_scorer(self) -> None:
        scorer = FakeScorer({})
        assert self.ids(rerank([self.IMAGE, self.MULTIMODAL], scorer)) == ["img", "mm"]
        assert scorer.calls == []

    def test_after_a_failure_it_has_its_place_in_the_first_stage(self) -> None:
        given = [NODES[0], self.IMAGE, NODES[1]]
        kept = rerank(given, FailingScorer(OSError("down")), on_error="first_stage", top_n=2)
        assert self.ids(kept) == [NODES[0].node_id, "img"]
        assert [one.score for one in kept] == [NODES[0].score, 0.9]
        assert kept[1].metadata["rerank_error"] == "OSError: down"

    def test_a_first_stage_without_scores_keeps_its_ranks(self) -> None:
        nodes = [NodeWithScore(node=TextNode(text=text, id_=text)) for text in "abc"]
        given = [nodes[0], self.MULTIMODAL, nodes[1], nodes[2]]
        kept = rerank(
            given, FakeScorer({"a": 0.0, "b": 1.0, "c": 2.0}), first_stage_weight=9.0, top_n=9
        )
        assert self.ids(kept) == ["a", "b", "c", "mm"]  # by rank, against the scorer
        by_hand = interpolate([0.0, 1.0, 2.0], [1 / 61, 1 / 63, 1 / 64], 9.0)
        assert [one.score for one in kept[:3]] == pytest.approx(by_hand)

    def test_a_caption_is_text(self) -> None:
        image = ImageNode(text="alpha", image_path="cat.png")
        node = Node(text_resource=MediaResource(text="beta"))
        kept = rerank([NodeWithScore(node=image), NodeWithScore(node=node)])
        assert [one.node.get_content() for one in kept] == ["beta", "alpha"]

    def test_a_blank_text_is_scored(self) -> None:
        blank = NodeWithScore(node=TextNode(text=""))
        assert [one.score for one in rerank([blank], FakeScorer({"": 1.0}))] == [1.0]


class TestMarks:
    @pytest.mark.parametrize("mode", [MetadataMode.LLM, MetadataMode.EMBED])
    def test_no_mark_reaches_a_model(self, mode: MetadataMode) -> None:
        settings = {"keep_retrieval_score": True, "top_n": 4}
        marked = rerank(NODES, TruncatingScorer(SCORES), mark_truncated=True, **settings)
        failed = rerank(NODES, FailingScorer(OSError()), on_error="first_stage", **settings)
        given = {one.node_id: one.node.get_content(mode) for one in NODES}
        for one in [*marked, *failed]:
            assert len(one.metadata) == 3  # the source and two marks
            assert one.node.get_content(metadata_mode=mode) == given[one.node_id]

    def test_a_key_of_the_callers_own_is_hidden_once_it_is_ours(self) -> None:
        node = TextNode(text="alpha", metadata={"retrieval_score": "old"})
        passages = FakeScorer(lambda _: 1.0)
        [kept] = rerank([NodeWithScore(node=node, score=0.5)], passages, keep_retrieval_score=True)
        assert kept.metadata == {"retrieval_score": 0.5}
        assert kept.node.get_content(metadata_mode=MetadataMode.LLM) == "alpha"
        assert node.metadata == {"retrieval_score": "old"}

    def test_marking_twice_excludes_once(self) -> None:
        once = rerank(NODES, keep_retrieval_score=True)
        twice = rerank(once, keep_retrieval_score=True)
        assert twice[0].node.excluded_llm_metadata_keys == ["retrieval_score"]

    def test_truncated_is_marked(self) -> None:
        kept = rerank(NODES, TruncatingScorer(SCORES), mark_truncated=True)
        assert [one.metadata["truncated"] for one in kept] == [False, True]


class TestFallback:
    def test_the_first_stage_comes_back_with_its_scores(self) -> None:
        kept = rerank(
            NODES, FailingScorer(OSError("down")), on_error="first_stage", score_threshold=9.0
        )
        assert [(one.text, one.score) for one in kept] == [("alpha", 0.0), ("beta", 0.125)]

    def test_a_later_success_drops_the_mark(self) -> None:
        failed = rerank(NODES, FailingScorer(OSError("down")), on_error="first_stage")
        [kept] = rerank(failed, top_n=1)
        assert kept.metadata == {"source": "beta.txt"}
        assert "rerank_error" in failed[1].metadata


class TestFirstStageScores:
    def test_interpolation_adds_the_scores_of_the_nodes(self) -> None:
        # By hand: scores 1 and -1, first stage 10 and 20; z-scores 1, -1 and -1, 1.
        nodes = [
            NodeWithScore(node=TextNode(text="a"), score=10.0),
            NodeWithScore(node=TextNode(text="b"), score=20.0),
        ]
        kept = rerank(nodes, FakeScorer({"a": 1.0, "b": -1.0}), first_stage_weight=3.0)
        assert [(one.text, one.score) for one in kept] == [("b", 2.0), ("a", -2.0)]

    def test_a_node_without_one_is_named(self) -> None:
        nodes = [NODES[0], NodeWithScore(node=NODES[1].node)]
        with pytest.raises(InvalidArgumentError, match=r"nodes\[1\] has no first-stage score"):
            rerank(nodes, first_stage_weight=0.5)


@pytest.mark.parametrize("kind", ["query", "aquery"])
def test_retriever_query_engine(kind: str) -> None:
    recorder = RecordingCallbacks()
    manager = CallbackManager([recorder])
    adapter = CrossEncoderRerank(scorer=FakeScorer(SCORES), keep_retrieval_score=True)
    engine = RetrieverQueryEngine.from_args(
        FirstStage(callback_manager=manager),
        llm=MockLLM(),
        node_postprocessors=[adapter],
        callback_manager=manager,
    )
    with recorded_events() as events:
        found = getattr(engine, kind)(QUERY)
        response = asyncio.run(found) if kind == "aquery" else found
    assert [one.text for one in response.source_nodes] == ["beta", "delta"]
    assert events.kinds == [ReRankStartEvent, ReRankEndEvent]
    method = "_postprocess_nodes" if kind == "query" else "_apostprocess_nodes"
    assert all(event.span_id.startswith(f"CrossEncoderRerank.{method}-") for event in events.seen)
    assert [end[EventPayload.NODES] for end in recorder.ends.values()] == [response.source_nodes]
    prompt = str(response)  # MockLLM answers with the prompt
    assert "beta" in prompt
    assert "retrieval_score" not in prompt
    methods = {call[0] for call in adapter.scorer.calls}  # type: ignore[union-attr]
    assert methods == {"score" if kind == "query" else "ascore"}


def test_events_state_the_number_of_nodes_where_all_are_kept() -> None:
    with recorded_events() as events:
        rerank(NODES, top_n=None)
    assert events.seen[0].top_n == 4


def test_callback_manager_does_not_remember_every_call() -> None:
    adapter = CrossEncoderRerank(scorer=FakeScorer(SCORES))
    for _ in range(5):
        adapter.postprocess_nodes(NODES, query_str=QUERY)
    remembered = sum(len(children) for children in adapter.callback_manager.trace_map.values())
    assert remembered <= 1
