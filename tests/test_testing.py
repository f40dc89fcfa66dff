"""`rerank_plugins.testing`: our own scorers and server pass, and broken ones are caught."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import httpx
import pytest
from live_server import ready, serving

from rerank_plugins import Scorer, shared_scorer
from rerank_plugins.remote import RemoteScorer
from rerank_plugins.testing import FakeScorer
from rerank_plugins.testing.http import RerankApiTests
from rerank_plugins.testing.scorer import ScorerTests


class TestFakeScorer(ScorerTests):
    def make(self) -> FakeScorer:
        return FakeScorer()


class TestCrossEncoderScorer(ScorerTests):
    def make(self) -> Scorer:
        return shared_scorer("embedded", device="cpu", dtype="float32")


class OverHttp:
    """Gives each test class one server of the embedded model."""

    url: ClassVar[str]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def server(cls) -> Iterator[None]:
        with serving(shared_scorer("embedded", device="cpu", dtype="float32")) as client:
            cls.url = str(ready(client).base_url)
            yield


class TestRemoteScorer(OverHttp, ScorerTests):
    def make(self) -> RemoteScorer:
        return RemoteScorer(self.url, "embedded")

    def release(self, scorer: RemoteScorer) -> None:
        scorer.close()


class TestServer(OverHttp, RerankApiTests):
    def connect(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)


class Reversed(FakeScorer):
    def _scored(self, method: str, query: str, passages: Sequence[str]) -> list[float]:
        return super()._scored(method, query, passages)[::-1]


class BestFirst(FakeScorer):
    def _scored(self, method: str, query: str, passages: Sequence[str]) -> list[float]:
        return sorted(super()._scored(method, query, passages), reverse=True)


class Relative(FakeScorer):
    """Gives scores that only compare within one call."""

    def _scored(self, method: str, query: str, passages: Sequence[str]) -> list[float]:
        scores = super()._scored(method, query, passages)
        return [score - max(scores) for score in scores]


class WholeNumbers(FakeScorer):
    def _scored(self, method: str, query: str, passages: Sequence[str]) -> list[Any]:
        return [round(score) for score in super()._scored(method, query, passages)]


class Infinite(FakeScorer):
    def _scored(self, method: str, query: str, passages: Sequence[str]) -> list[float]:
        return [float("inf") for _ in passages]


class Counting(FakeScorer):
    def __init__(self) -> None:
        calls = itertools.count()
        super().__init__(lambda _: float(next(calls)))


class Emptying(FakeScorer):
    def _scored(self, method: str, query: str, passages: Any) -> list[float]:
        scores = super()._scored(method, query, passages)
        passages.clear()
        return scores


class OverOne(FakeScorer):
    score_unit = "probability"


class Nameless(FakeScorer):
    model = ""


@pytest.mark.parametrize(
    ("broken", "caught_by"),
    [
        (Reversed, "test_a_score_does_not_depend_on_the_other_passages"),
        (BestFirst, "test_scores_come_in_the_order_of_the_passages"),
        (Relative, "test_a_score_does_not_depend_on_the_other_passages"),
        (Emptying, "test_passages_are_left_as_they_are"),
        (Counting, "test_a_tuple_of_passages_is_read_too"),
    ],
)
def test_a_scorer_that_answers_wrongly_is_caught(broken: type[FakeScorer], caught_by: str) -> None:
    with pytest.raises(AssertionError):
        getattr(TestFakeScorer(), caught_by)(broken().score)


@pytest.mark.parametrize("broken", [WholeNumbers, Infinite, OverOne])
def test_a_score_that_is_no_score_is_caught(broken: type[FakeScorer]) -> None:
    scorer = broken()
    with pytest.raises(AssertionError):
        TestFakeScorer().test_one_finite_python_float_for_each_passage(scorer, scorer.score)


def test_a_scorer_without_a_name_is_caught() -> None:
    with pytest.raises(AssertionError):
        TestFakeScorer().test_says_its_model_and_its_unit(Nameless())


def test_threads_that_get_each_others_scores_are_caught() -> None:
    with pytest.raises(AssertionError):
        TestFakeScorer().test_threads_get_their_own_scores(Counting())


def test_a_server_that_ignores_top_n_is_caught() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        rows = [{"index": index, "relevance_score": -index} for index in range(5)]
        return httpx.Response(200, json={"results": rows})

    with (
        httpx.Client(base_url="http://fake", transport=httpx.MockTransport(answer)) as client,
        pytest.raises(AssertionError),
    ):
        TestServer().test_top_n_keeps_the_best(client)


@pytest.mark.parametrize("module", ["scorer", "http", "langchain", "llama_index"])
def test_without_pytest_the_fakes_work_and_the_kit_says_what_to_install(module: str) -> None:
    program = (
        "import sys\nsys.modules['pytest'] = None\n"
        "from importlib.machinery import PathFinder\n"
        "found = PathFinder.find_spec\n"
        "PathFinder.find_spec = classmethod(\n"
        "    lambda cls, name, *more: None if name == 'pytest' else found(name, *more))\n"
        "del sys.modules['pytest']\n"
        "from rerank_plugins.testing import FakeScorer\n"
        "assert FakeScorer().score('a', ['a']) == [1.0]\n"
        "from rerank_plugins.errors import MissingExtraError\n"
        f"try:\n    import rerank_plugins.testing.{module}\n"
        "except MissingExtraError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'rerank_plugins[testing" in done.stdout, done.stderr
