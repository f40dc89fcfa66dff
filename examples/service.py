"""A FastAPI service of your own around one shared scorer, warm before the first request.

``uvicorn --app-dir examples service:app`` serves it; run as a program, it asks itself and prints:

    200 {'passages': ['list.sort() sorts the items of the list in place.']}
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from pydantic import BaseModel

from rerank_plugins import CrossEncoderScorer, arank, close_shared_scorers, shared_scorer
from rerank_plugins.errors import OverloadedError


def scorer() -> CrossEncoderScorer:
    return shared_scorer("embedded", max_queued_pairs=10_000)  # the same one at every call


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    scorer().warmup()
    gc.freeze()  # torch's objects stay out of every later garbage collection
    yield
    close_shared_scorers()


app = FastAPI(lifespan=lifespan)


class Question(BaseModel):
    query: str
    passages: list[str]


@app.post("/best")
async def best(question: Question) -> dict[str, list[str]]:
    try:
        rows = await arank(scorer(), question.query, question.passages, top_n=1)
    except OverloadedError as error:
        raise HTTPException(503, str(error), {"Retry-After": "1"}) from error
    return {"passages": [question.passages[row.index] for row in rows]}


def main() -> None:
    passages = ["The Thames is a river.", "list.sort() sorts the items of the list in place."]
    with TestClient(app) as client:
        answer = client.post("/best", json={"query": "sort a list", "passages": passages})
    print(answer.status_code, answer.json())


if __name__ == "__main__":
    main()
