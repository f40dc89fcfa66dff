"""The examples run offline, agree with each other, and ask the language model that is named."""

from __future__ import annotations

import difflib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PROGRAMS = ("langchain_faiss_rag.py", "llama_index_faiss_rag.py")
NO_MODEL = "(No language model: OPENAI_BASE_URL is not set. This is its prompt.)"


def run_example(name: str, *arguments: str, **variables: str) -> str:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OPENAI_")}
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**kept, "HF_HUB_OFFLINE": "1", **variables},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def prompts() -> dict[str, str]:
    return {name: run_example(name) for name in PROGRAMS}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_without_a_language_model_the_prompt_is_printed(prompts: dict[str, str], name: str) -> None:
    lines = prompts[name].splitlines()
    assert lines[-1] == NO_MODEL
    numbered = [line for line in lines if line[:1] == "[" and ", score " in line]
    assert [line.partition("]")[0] for line in numbered] == ["[1", "[2", "[3", "[4"]
    scores = [float(line.rpartition(" ")[2]) for line in numbered]
    assert scores == sorted(scores, reverse=True)
    assert any(line.startswith("Question: I open a variable number of files") for line in lines)


@pytest.mark.slow
def test_both_examples_build_the_same_prompt(prompts: dict[str, str]) -> None:
    first, second = prompts.values()
    assert first == second


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_example_is_short_enough_to_paste(name: str) -> None:
    assert len((EXAMPLES / name).read_text("utf-8").splitlines()) < 80


def test_the_examples_differ_only_where_the_frameworks_do() -> None:
    first, second = ((EXAMPLES / name).read_text("utf-8").splitlines() for name in PROGRAMS)
    shared = difflib.SequenceMatcher(None, first, second, autojunk=False).ratio()
    assert shared > 0.7


class Endpoint(BaseHTTPRequestHandler):
    """Answers as an OpenAI-compatible server does, and keeps what it was asked."""

    asked: list[tuple[str, str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, self.headers["Authorization"], body))
        answer = {"choices": [{"message": {"role": "assistant", "content": "Use ExitStack [1]."}}]}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def endpoint() -> Iterator[HTTPServer]:
    Endpoint.asked = []
    server = HTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_language_model_that_is_named_answers(name: str, endpoint: HTTPServer) -> None:
    printed = run_example(
        name,
        "close all my files",
        OPENAI_BASE_URL=f"http://127.0.0.1:{endpoint.server_port}/v1/",
        OPENAI_API_KEY="secret",
        OPENAI_MODEL="some-model",
    )
    assert printed == "Use ExitStack [1].\n"
    ((path, authorization, body),) = Endpoint.asked
    assert (path, authorization) == ("/v1/chat/completions", "Bearer secret")
    assert body["model"] == "some-model"
    (message,) = body["messages"]
    assert "Question: close all my files" in message["content"]
