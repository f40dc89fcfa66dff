"""One scorer, many callers: everybody gets the scores of serial execution, or leaves in peace."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from checkpoints import WORDS, write_card
from hypothesis import given, settings
from hypothesis import strategies as st
from model_shapes import CARDS
from torch import Tensor

from rerank_plugins import CrossEncoderScorer
from rerank_plugins.cross_encoder.devices import Forward
from rerank_plugins.cross_encoder.pairs import PackedPairs
from rerank_plugins.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    RerankError,
    ScorerClosedError,
)

QUERY = "how do i sort a list"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tinybert")
    write_card(CARDS[0], folder)
    return folder


@pytest.fixture(scope="module")
def scorer(folder: Path) -> Iterator[CrossEncoderScorer]:
    with CrossEncoderScorer(str(folder), device="cpu") as scorer:
        yield scorer


def passages(count: int, seed: int = 0) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=generator.randint(1, 40))) for _ in range(count)]


def test_threads_and_tasks_with_mixed_max_length_get_serial_scores(
    scorer: CrossEncoderScorer,
) -> None:
    calls = [(passages(4, seed), length) for seed in range(15) for length in (12, 20, 64)]
    serial = [
        [scorer.score(QUERY, [text], max_length=length)[0] for text in texts]
        for texts, length in calls
    ]

    def one(index: int) -> None:
        texts, length = calls[index]
        if index % 3:
            scores = scorer.score(QUERY, texts, max_length=length)
        else:
            scores = asyncio.run(scorer.ascore(QUERY, texts, max_length=length))
        assert scores == pytest.approx(serial[index], abs=1e-5)

    order = list(range(len(calls))) * 4
    random.Random(0).shuffle(order)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, order))


def test_a_thousand_tasks_and_half_of_them_cancelled(scorer: CrossEncoderScorer) -> None:
    texts = passages(40)
    wanted = scorer.score(QUERY, texts)

    async def run() -> None:
        tasks = [
            asyncio.create_task(scorer.ascore(QUERY, texts[n % 38 : n % 38 + 2]))
            for n in range(1_000)
        ]
        await asyncio.sleep(0.01)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for n, result in enumerate(results):
            if isinstance(result, BaseException):
                assert isinstance(result, asyncio.CancelledError)
                assert n % 2 == 0
            else:
                assert result == pytest.approx(wanted[n % 38 : n % 38 + 2], abs=1e-5)

    asyncio.run(run())
    assert scorer.score(QUERY, texts) == pytest.approx(wanted, abs=1e-5)
    assert scorer.stats.queued_pairs == 0


def test_other_work_in_the_loop_goes_on_while_many_calls_start(scorer: CrossEncoderScorer) -> None:
    """Rounds of the loop, not time: another task must get its turn between the calls."""

    async def run() -> int:
        rounds, running = 0, True

        async def count() -> None:
            nonlocal rounds
            while running:
                rounds += 1
                await asyncio.sleep(0)

        counter = asyncio.create_task(count())
        submitted: list[int] = []

        async def call(n: int) -> None:
            await scorer.ascore(QUERY, [f"list {n}"])
            submitted.append(rounds)

        tasks = [asyncio.create_task(call(n)) for n in range(400)]
        await asyncio.gather(*tasks)
        running = False
        await counter
        return rounds

    assert asyncio.run(run()) >= 400 // 16


def test_a_deadline_takes_the_pairs_back(scorer: CrossEncoderScorer) -> None:
    with pytest.raises(DeadlineExceededError, match=r"2000 pairs .* timeout_s=0\.0"):
        scorer.score(QUERY, [f"{n} list" for n in range(2_000)], timeout_s=0.0)
    with pytest.raises(DeadlineExceededError):
        asyncio.run(scorer.ascore(QUERY, [f"{n} of" for n in range(2_000)], timeout_s=0.0))
    assert len(scorer.score(QUERY, ["a"], timeout_s=60)) == 1
    assert asyncio.run(scorer.ascore(QUERY, ["a"], timeout_s=60)) == scorer.score(QUERY, ["a"])
    assert scorer.stats.queued_pairs == 0


@pytest.mark.parametrize("timeout_s", [-1, float("nan"), float("inf"), "1", True])
def test_a_wrong_deadline_is_refused_by_name(scorer: CrossEncoderScorer, timeout_s: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="timeout_s must be"):
        scorer.score(QUERY, ["a"], timeout_s=timeout_s)


def test_a_full_default_executor_does_not_block_ascore(scorer: CrossEncoderScorer) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        release = threading.Event()
        blocked = loop.run_in_executor(None, release.wait, 60)
        assert len(await scorer.ascore(QUERY, ["a", "b"])) == 2
        release.set()
        await blocked

    asyncio.run(run())


def test_several_devices_score_as_one(folder: Path, scorer: CrossEncoderScorer) -> None:
    texts = passages(300)
    with CrossEncoderScorer(str(folder), device=["cpu", "cpu"]) as other:
        assert other.score(QUERY, texts) == pytest.approx(scorer.score(QUERY, texts), abs=1e-5)


def test_identical_passages_tie_exactly_in_any_company(scorer: CrossEncoderScorer) -> None:
    texts = ["the same list", *passages(50), "the same list", *passages(50, 1), "the same list"]
    scores = scorer.score(QUERY, texts)
    assert scores[0] == scores[51] == scores[102]
    pairs = [(QUERY, text) for text in texts]
    by_pair = scorer.score_pairs([*pairs, ("another", "the same list"), pairs[0]])
    assert by_pair[0] == by_pair[51] == by_pair[102] == by_pair[-1] != by_pair[-2]


def test_closing_while_others_call(folder: Path) -> None:
    scorer = CrossEncoderScorer(str(folder), device="cpu")
    ends: list[str] = []

    def client(seed: int) -> None:
        try:
            for n in range(10_000):
                scorer.score(QUERY, passages(3, seed * 100 + n))
        except ScorerClosedError:
            ends.append("closed")

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    while scorer.stats.calls < 20:
        pass
    scorer.close()
    scorer.close()
    for thread in threads:
        thread.join(60)
    assert ends == ["closed"] * 8
    for call in (scorer.truncated, scorer.best_windows, scorer.score):
        with pytest.raises(ScorerClosedError):
            call(QUERY, ["a"])


def test_a_long_passage_and_a_long_query_work(folder: Path) -> None:
    long_text = "river of the list " * 60_000  # 1 MB
    with CrossEncoderScorer(str(folder), device="cpu", max_length=32) as scorer:
        first, second = scorer.score(QUERY, [long_text, long_text[:2_000]])
        assert first == pytest.approx(second, abs=1e-5), "only the beginning is read"
        assert scorer.truncated(QUERY, [long_text, "a"]) == [True, False]
        assert len(scorer.score(long_text, ["a", "b"])) == 2
        assert scorer.stats.truncated >= 4


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text(max_size=80), max_size=5), query=st.text(max_size=40))
def test_any_text_scores_or_is_refused_by_name(
    scorer: CrossEncoderScorer, query: str, texts: list[str]
) -> None:
    scores = scorer.score(query, texts)
    assert len(scores) == len(texts)
    assert all(isinstance(score, float) for score in scores)


def test_half_a_character_is_refused_and_harms_nobody_else(scorer: CrossEncoderScorer) -> None:
    with pytest.raises(RerankError, match="surrogate"):
        scorer.score(QUERY, ["good", "\ud800"])
    assert len(scorer.score(QUERY, ["good"])) == 1


def test_a_waiting_call_gives_the_garbage_collector_little_to_look_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_calls = 500
    monkeypatch.delitem(sys.modules, "opentelemetry.trace", raising=False)  # spans have their price
    with CrossEncoderScorer(str(folder), device="cpu") as scorer:
        gate = threading.Event()
        for replica in scorer._loaded.replicas:
            replica.forward = held(gate, replica.forward)

        async def run() -> float:
            before = tracked()
            tasks = [
                asyncio.create_task(scorer.ascore(QUERY, [f"{n}", "a"])) for n in range(n_calls)
            ]
            while scorer.stats.calls < n_calls:
                await asyncio.sleep(0)
            waiting = tracked() - before
            gate.set()
            await asyncio.gather(*tasks)
            return waiting / n_calls

        # The task, its coroutine and its context are among them.
        assert asyncio.run(run()) < 18


def tracked() -> int:
    gc.collect()
    return len(gc.get_objects())


def held(gate: threading.Event, forward: Forward) -> Forward:
    def wait_and_run(pairs: PackedPairs) -> Tensor:
        gate.wait()
        return forward(pairs)

    return wait_and_run
