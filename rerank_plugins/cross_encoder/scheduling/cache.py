"""Scores seen before, and scores that are being computed: each pair at most once.

A cache belongs to one scorer, whose weights, dtype and settings never change. So the identity of
the cache stands for the model, and a pair is known by its query, its passage and the call's
``max_length``.

Between a caller's job and the queue there is a flight: the job of those pairs that are neither
known nor on their way. Later calls for the same pairs wait for the same flight, which goes on when
its first caller leaves, and ends when its last one does. When it fails, the error goes to the call
that started it; the others score their pairs again.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from rerank_plugins.cross_encoder.scheduling import forking
from rerank_plugins.cross_encoder.scheduling.jobs import Job, Outcome
from rerank_plugins.cross_encoder.scheduling.scoring_queue import ScoringQueue
from rerank_plugins.errors import RerankError


class Entry(NamedTuple):
    """What is known of a pair."""

    decision: float
    truncated: bool
    window_start: int


class _Call:
    """A caller's job, and what it still lacks."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.outcome = Outcome.empty(job.n_pairs)
        self.lacking: dict[bytes, int] = {}  # key -> place in the job

    def fill(self, key: bytes, entry: Entry) -> None:
        place = self.lacking.pop(key)
        self.outcome.decisions[place] = entry.decision
        self.outcome.truncated[place] = entry.truncated
        self.outcome.window_starts[place] = entry.window_start


class _Flight:
    """Pairs on their way through the queue, and the calls that wait for them."""

    def __init__(self, owner: _Call, keys: Sequence[bytes]) -> None:
        self.owner = owner
        self.keys = keys
        self.calls: dict[_Call, None] = {owner: None}
        job, places = owner.job, [owner.lacking[key] for key in keys]
        self.job = Job(
            [job.queries[place] for place in places],
            [job.passages[place] for place in places],
            max_length=job.max_length,
            windows=job.windows,
            indices=[job.place(place) for place in places],
            argument=job.argument,
        )


class ScoreCache:
    """Takes jobs as the queue does, and hands it only what has to be computed.

    Keeps the last ``size`` pairs. A pair takes its key's 16 bytes and about 300 of Python's,
    however long its texts are.
    """

    def __init__(self, queue: ScoringQueue, *, size: int) -> None:
        self._queue = queue
        self._size = size
        self._start_empty()
        forking.register(self)

    def _start_empty(self) -> None:
        # Innermost: nothing is called while it is held that takes another lock.
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._flights: dict[bytes, _Flight] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def submit(self, job: Job) -> None:
        """Take a job, which will hold the outcome; cancelling it takes its pairs out."""
        self._queue.check_usable()
        call = _Call(job)
        for place in range(job.n_pairs):
            call.lacking[_key(job, place)] = place
        n_computed = self._start(call)
        self._queue.counters.add(calls=1, pairs=job.n_pairs, cache_hits=job.n_pairs - n_computed)
        job.add_done_callback(lambda _: self._left(call))

    def _start(self, call: _Call) -> int:
        """Fill what is known, join what is on its way, start the rest; return how many pairs."""
        with self._lock:
            flight = self._take_off(call)
            finished = not call.lacking
        if finished:
            call.job.finish(call.outcome)
        if flight is None:
            return 0
        try:
            self._queue.submit(flight.job, new_call=False)
        except RerankError as error:
            flight.job.fail(error)  # for the calls that have joined meanwhile
            self._landed(flight)
            raise
        flight.job.add_done_callback(lambda _: self._landed(flight))
        return len(flight.keys)

    def _take_off(self, call: _Call) -> _Flight | None:
        new: list[bytes] = []
        for key in list(call.lacking):
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
                call.fill(key, entry)
            elif key in self._flights:
                self._flights[key].calls[call] = None
            else:
                new.append(key)
        if not new:
            return None
        flight = _Flight(call, new)
        self._flights.update(dict.fromkeys(new, flight))
        return flight

    def _landed(self, flight: _Flight) -> None:
        """Hand on what a flight brought, or start again for those who only joined it."""
        error = flight.job.error
        outcome = None if flight.job.cancelled or error else flight.job.result()
        finished: list[_Call] = []
        with self._lock:
            for place, key in enumerate(flight.keys):
                if self._flights.get(key) is flight:
                    del self._flights[key]
                if outcome is not None:
                    entry = Entry(
                        float(outcome.decisions[place]),
                        bool(outcome.truncated[place]),
                        int(outcome.window_starts[place]),
                    )
                    self._remember(key, entry)
                    for call in flight.calls:
                        if key in call.lacking:
                            call.fill(key, entry)
            calls = [call for call in flight.calls if not call.job.done]
            finished = [call for call in calls if not call.lacking]
        for call in finished:
            call.job.finish(call.outcome)
        if outcome is not None:
            return
        for call in calls:
            if call is flight.owner and error is not None:
                call.job.fail(error)
            else:
                self._start_again(call)

    def _start_again(self, call: _Call) -> None:
        try:
            self._start(call)
        except RerankError as error:
            call.job.fail(error)

    def _remember(self, key: bytes, entry: Entry) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def _left(self, call: _Call) -> None:
        """Take back the flights that nobody waits for any more."""
        with self._lock:
            flights = {id(f): f for key in call.lacking if (f := self._flights.get(key))}
            for flight in flights.values():
                flight.calls.pop(call, None)
            abandoned = [flight for flight in flights.values() if not flight.calls]
            for flight in abandoned:
                for key in flight.keys:  # a call that comes now must not join it
                    if self._flights.get(key) is flight:
                        del self._flights[key]
        for flight in abandoned:
            flight.job.cancel()

    def before_fork(self) -> None:
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Keep what is known; what was on its way belongs to the parent."""
        entries = self._entries
        self._start_empty()
        self._entries = entries

    def close(self) -> None:
        """Forget everything. What is on its way fails when the queue closes."""
        with self._lock:
            self._entries.clear()


def _key(job: Job, place: int) -> bytes:
    query = job.queries[place].encode("utf-8", "surrogatepass")
    passage = job.passages[place].encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{job.max_length} {len(query)} ".encode())  # so that no two pairs run together
    digest.update(query)
    digest.update(passage)
    return digest.digest()
