"""The command line: what it lists, what it imports, how it fails; and the rerank command."""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import rerank_plugins
from rerank_plugins import EMBEDDED_MODEL, rank, shared_scorer
from rerank_plugins.cli import COMMANDS, main
from rerank_plugins.options import ScorerOptions

QUERY = "how do plants make sugar from light"
PASSAGES = [
    "The stock market fell on Monday after a weak report on jobs.",
    "Photosynthesis is the process by which green plants use sunlight to make sugar.",
    "Plants need regular watering.",
]


def run_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rerank_plugins.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )


@pytest.fixture
def passages_file(tmp_path: Path) -> Path:
    path = tmp_path / "passages.txt"
    path.write_text("\n\n".join(PASSAGES) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_has_a_module_with_its_parts(name: str) -> None:
    module = importlib.import_module(f"rerank_plugins.commands.{name.replace('-', '_')}")
    assert module.HELP == COMMANDS[name]
    assert callable(module.configure)
    assert callable(module.run)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert f"rerank-plugins {name}" in capsys.readouterr().out


def test_help_lists_the_commands_and_imports_none_of_them() -> None:
    program = (
        "import sys\nfrom rerank_plugins.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'rich', 'numpy', 'transformers', 'langchain_core', 'llama_index'}\n"
        "print('loaded:', *sorted(name for name in sys.modules if name in heavy\n"
        "    or name.startswith('rerank_plugins.commands.')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    for name in COMMANDS:
        assert f"\n    {name}" in result.stdout
    assert result.stdout.rstrip().endswith("loaded:")


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"rerank_plugins {rerank_plugins.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["rerank"], ["demo", "--top"]])
def test_wrong_usage_ends_with_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: rerank-plugins" in capsys.readouterr().err


def test_an_error_is_one_line_without_a_traceback(passages_file: Path) -> None:
    folder = str(passages_file.parent)
    result = run_cli("rerank", "--query", "x", str(passages_file), "--model", folder)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("rerank-plugins: ")
    assert folder in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_control_c_ends_with_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> Iterator[str]:
        yield "a passage"
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", interrupted())
    assert main(["rerank", "--query", "x"]) == 130


def test_a_reader_that_stops_early_is_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "many.txt"
    path.write_text("a passage of words\n" * 20_000)
    command = [sys.executable, "-m", "rerank_plugins.cli", "rerank", "--query", "x", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read().decode()
    assert process.returncode == 1
    assert errors == ""


def test_rerank_prints_the_ranking_of_the_library(
    passages_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = rank(shared_scorer(EMBEDDED_MODEL), QUERY, PASSAGES)
    assert main(["rerank", "--query", QUERY, str(passages_file)]) == 0
    rows = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    assert [row[2] for row in rows] == [PASSAGES[row.index] for row in expected]
    assert [float(row[0]) for row in rows] == pytest.approx(
        [row.score for row in expected], abs=1e-3
    )
    assert rows[0][1] == "3"  # the line of the file: empty ones count, and are passed over


def test_rerank_as_json_keeps_ids_titles_and_top_n(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "passages.jsonl"
    rows = [
        {"_id": "jobs", "text": PASSAGES[0]},
        {"id": 7, "title": "Leaves", "text": PASSAGES[1]},
        {"text": PASSAGES[2]},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert main(["rerank", "--query", QUERY, str(path), "--json", "--top-n", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == EMBEDDED_MODEL
    assert found["score_unit"] == "logit"
    first, second = found["ranking"]
    assert (first["id"], first["index"], first["rank"]) == ("7", 1, 1)
    assert first["passage"] == f"Leaves {PASSAGES[1]}"
    assert second["score"] < first["score"]


def test_rerank_reads_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(PASSAGES)))
    assert main(["rerank", "--query", QUERY, "--top-n", "1"]) == 0
    assert "Photosynthesis" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", [], "no passages in {path}"),
        ('{"text": "a"}\n[1]\n', ["--jsonl"], "{path}:2: a JSON array, where an object"),
        ('{"body": "a"}', ["--jsonl"], '{path}:1: no string "text"; expected an object'),
        ("a", ["--top-n", "0"], "--top-n must be at least 1"),
    ],
)
def test_unusable_input_is_named(
    tmp_path: Path,
    content: str,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "passages.txt"
    path.write_text(content)
    assert main(["rerank", "--query", "x", str(path), *options]) == 1
    assert message.format(path=path) in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rerank", "--query", "x", str(tmp_path / "none.txt")]) == 1
    assert "none.txt cannot be read: No such file" in capsys.readouterr().err


@pytest.mark.parametrize("query", ["", "  "])
def test_an_empty_question_is_refused(query: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rerank", "-q", query]) == 1
    assert "--query is empty" in capsys.readouterr().err


def test_a_json_array_is_not_taken_for_a_passage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "passages.txt"
    path.write_text('[{"text": "a"}, {"text": "b"}]')
    assert main(["rerank", "-q", "x", str(path)]) == 1
    assert f"{path}:1: looks like JSON" in capsys.readouterr().err


def test_foreign_text_cannot_move_the_cursor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "passages.jsonl"
    rows = [{"id": "\x1b]0;owned\x07\n 9.9 fake", "text": "a \x1b[2J b \u202e c [red]d[/red]"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert main(["rerank", "-q", "x", str(path)]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 1
    assert shown.rstrip("\n").isprintable()
    assert "[red]d[/red]" in shown


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_any_locale_prints_every_passage(tmp_path: Path, more: list[str]) -> None:
    path = tmp_path / "passages.txt"
    path.write_bytes("\ufeffplain\nparty \U0001f389 list\n東京\n".encode())
    done = subprocess.run(
        [sys.executable, "-m", "rerank_plugins", "rerank", "-q", "list", str(path), *more],
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        check=True,
    )
    if more:
        passages = {row["passage"] for row in json.loads(done.stdout.decode("utf-8"))["ranking"]}
        assert passages == {"plain", "party \U0001f389 list", "東京"}
    else:
        assert "\\u6771\\u4eac" in done.stdout.decode("cp1252")


def test_a_misspelt_model_is_answered_with_the_known_one(
    passages_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rerank", "-q", "x", "-m", "embeded", str(passages_file)]) == 1
    assert "did you mean 'embedded'?" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["rerank", "rerank-dataset", "evaluate"])
def test_the_options_of_a_scorer_are_options_of_the_commands(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = capsys.readouterr().out
    left_out = {"model", "token", "max_queued_pairs"}
    for option in {field.name for field in fields(ScorerOptions)} - left_out:
        assert f"--{option.replace('_', '-')}" in told


def test_the_unit_and_the_prefixes_reach_the_scorer(
    passages_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--query-prefix", "a list ", "--passage-prefix", "of things: "]
    given = ["rerank", "-q", "x", "-j", "-d", "cpu", "--score-unit", "probability", *words]
    assert main([*given, str(passages_file)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["score_unit"] == "probability"
    scorer = shared_scorer("embedded", device="cpu", score_unit="probability")
    for row in answer["ranking"]:
        [expected] = scorer.score("a list x", ["of things: " + row["passage"]])
        assert row["score"] == pytest.approx(expected, abs=1e-6)
    assert main([*given[:7], "sigmoid", str(passages_file)]) == 1
    assert "score_unit must be one of auto, logit, probability" in capsys.readouterr().err
