"""The training recipe's pure parts, on made-up data."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertForSequenceClassification

from training.candidates import BM25, ListShape, candidate_list, dense_top, reciprocal_rank
from training.dictionaries import dictd_entries, wordnet_entries
from training.distillation import (
    Schedule,
    WeightAverage,
    list_loss,
    mean_student,
    stretched_pairs,
    train,
)
from training.lists import Lists, held_out, training_candidates, validation_candidates
from training.markup import Section, clean_heading, sections
from training.passages import Passage, chunks, pair_passages, read_passages, write_passages
from training.queries import Query, build_queries, heading_query, questions_from
from training.student import TokenStore, logits, padded_pairs, score_pairs
from training.teachers import mixed_targets, sparse_scores

pytestmark = pytest.mark.usefixtures("one_thread")


WORDS = ("[PAD]", "cat", "dog", "tea", "milk", "purrs", "barks", "steams", "pours")


def tiny_student(seed: int = 0) -> BertForSequenceClassification:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=200,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.2,
    )
    config.num_labels = 1
    return BertForSequenceClassification(config)


def word_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, "[PAD]"))
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


def ids(*values: int) -> np.ndarray:
    return np.asarray(values, dtype=np.int32)


def test_sections_leave_out_code_and_navigation() -> None:
    page = (
        "<html><head><title>Site</title></head><body><nav><p>Home</p></nav><h1>Tea</h1>"
        "<p>Tea is a&nbsp;drink.</p><pre>brew()</pre><h2>Milk</h2><ul><li>Cold</ul></body></html>"
    )
    assert sections(page) == [Section("Tea", ["Tea is a drink."]), Section("Milk", ["Cold"])]


@pytest.mark.parametrize(
    ("heading", "clean"),
    [("3.1. Tables", "Tables"), ("Chapter 5. Locks", "Locks"), ("Vitamin C", "Vitamin C")],
)
def test_headings_lose_their_numbers(heading: str, clean: str) -> None:
    assert clean_heading(heading) == clean


def test_dictionary_marks_are_not_part_of_a_definition() -> None:
    text = 'Abacist \\Ab"a*cist\\, n. [LL.]\n   One who uses an {abacus}.\n   [1913 Webster]'
    assert list(dictd_entries(text)) == [("Abacist", "One who uses an abacus.")]


def test_wordnet_joins_the_senses_of_a_word() -> None:
    lines = [
        "  1 This is a licence line",
        "00001740 03 n 01 bank 0 000 | a slope beside water  ",
        "00001930 03 n 02 bank 0 depository 0 000 | a place for money  ",
    ]
    assert dict(wordnet_entries(lines)) == {
        "bank": "a slope beside water; a place for money (also called depository)",
        "depository": "a place for money (also called bank)",
    }


def test_chunks_keep_every_word() -> None:
    paragraphs = ["One two three. Four five six seven.", "Eight nine."]
    joined = " ".join(chunks(paragraphs, n_words=4))
    assert joined == " ".join(paragraphs)


def test_short_neighbouring_passages_of_pairs_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"query": f"q{n}", "passage": f"Sentence number {n} is here."} for n in range(40)]
    path.write_text("\n".join(map(json.dumps, rows)))
    passages = list(pair_passages(path, random.Random(0)))
    assert len(passages) < 20
    assert [q for passage in passages for q in passage.questions] == [f"q{n}" for n in range(40)]
    assert all("Sentence number" in passage.text for passage in passages)


def test_passages_survive_a_file(tmp_path: Path) -> None:
    passages = [
        Passage("s", "answer", "t", "text \u2028 é", ("q?",)),
        Passage("s", "section", "", "b"),
    ]
    write_passages(passages, tmp_path / "p.jsonl")
    assert read_passages(tmp_path / "p.jsonl") == passages


def test_headings_in_ing_become_instructions() -> None:
    asked = {heading_query("Running a server", random.Random(seed)) for seed in range(20)}
    assert {"how to run a server", "run a server"} <= asked


def test_a_reason_becomes_a_why_question() -> None:
    (question,) = questions_from("Ice floats because it is light. Nothing.", random.Random(1)) or [
        ""
    ]
    assert question == "" or question.endswith("floats")
    (found,) = questions_from(
        "In fact solid ice floats well because it is light.", random.Random(0)
    )
    assert "ice floats well" in found


def test_queries_are_distinct_and_bounded_by_form() -> None:
    passages = [
        Passage(
            "d",
            "definition",
            f"word{n}",
            f"word{n}: some thing numbered {n} of wood",
            ("Who is it?",),
        )
        for n in range(30)
    ]
    queries = build_queries(passages, seed=0, limits={"keywords": 5})
    texts = [query.text.lower().rstrip(" ?.") for query in queries]
    assert len(set(texts)) == len(texts)
    assert sum(query.form == "keywords" for query in queries) == 5
    assert build_queries(passages, seed=0, limits={"keywords": 5}) == queries


def test_bm25_scores_of_any_pair_equal_the_order_of_the_search() -> None:
    texts = ["the cat purrs", "a dog barks loudly", "cats and dogs", "tea with milk"] * 3
    bm25 = BM25([f"{text} {index}" for index, text in enumerate(texts)])
    queries = bm25.queries(["cat dog", "milk", "zebra"])
    top = bm25.top(queries, top_k=4)
    everything = np.tile(np.arange(len(texts)), (3, 1))
    scores = sparse_scores(queries, bm25.passages, everything)
    for row in (0, 1):
        found = top[row][top[row] >= 0]
        best = np.sort(scores[row])[::-1][: len(found)]
        assert scores[row][found] == pytest.approx(best)
    assert set(top[1][top[1] >= 0]) == {3, 7, 11}
    assert (top[2] == -1).all()


def test_dense_top_finds_the_nearest_of_its_shard() -> None:
    vectors = np.eye(6, dtype=np.float32)
    nearest = dense_top(vectors, vectors, top_k=1, shard=6, rng=np.random.default_rng(0))
    assert nearest[:, 0].tolist() == list(range(6))


def test_candidates_are_distinct_and_start_with_the_own_passage() -> None:
    rng = np.random.default_rng(0)
    bm25, shape = np.array([5, 3, 8, *[-1] * 20]), ListShape()
    chosen = candidate_list(3, bm25, np.array([5, 9]), shape=shape, n_passages=50, rng=rng)
    assert chosen[0] == 3
    assert len(set(chosen.tolist())) == shape.size
    assert {5, 8, 9} <= set(chosen.tolist())


def test_a_tie_counts_against_the_own_passage() -> None:
    scores = np.array([[1.0, 1.0, 1.0], [0.0, *range(1, 12), 0][:3]])
    assert reciprocal_rank(scores).tolist() == pytest.approx([1 / 3, 1 / 3])
    assert reciprocal_rank(np.arange(12.0)[None, :]).tolist() == [0.0]


def test_targets_do_not_depend_on_the_scale_of_the_sparse_teacher() -> None:
    rng = np.random.default_rng(0)
    dense, sparse, bm25 = (rng.random((4, 6), dtype=np.float32) for _ in range(3))
    targets = mixed_targets(dense, sparse, bm25)
    assert mixed_targets(dense, 40 * sparse + 7, bm25) == pytest.approx(targets, abs=1e-4)
    flat = mixed_targets(dense, np.ones_like(sparse), bm25)
    assert flat == pytest.approx(mixed_targets(dense, sparse, bm25, sparse_weight=0.0), abs=1e-5)


def test_sparse_scores_equal_a_matrix_product() -> None:
    rng = np.random.default_rng(0)
    queries, passages = rng.random((5, 9)) * (rng.random((5, 9)) > 0.5), rng.random((7, 9))
    candidates = rng.integers(0, 7, (5, 3))
    scores = sparse_scores(sp.csr_matrix(queries), sp.csr_matrix(passages), candidates, rows=2)
    product = np.take_along_axis(queries @ passages.T, candidates, axis=1)
    assert scores == pytest.approx(product)


def test_no_training_list_has_a_validation_passage_as_its_own() -> None:
    queries = [Query(f"q{n}", n, "person" if n % 2 else "keywords") for n in range(300)]
    bm25 = np.tile(np.arange(300), (300, 1))[:, :40]
    query, candidates = training_candidates(
        queries, bm25, bm25[:, :5], n_passages=300, seed=0, shape=ListShape()
    )
    assert not any(held_out(int(own)) for own in candidates[:, 0])
    assert len(query) > 297
    held, rows = validation_candidates(queries, bm25, per_group=10, depth=20)
    assert [held_out(queries[int(index)].passage) for index in held] == [True] * len(held) != []
    assert rows.shape == (len(held), 20)
    assert all(len(set(row.tolist())) == 20 for row in rows)


def test_student_logits_equal_those_of_transformers() -> None:
    student = tiny_student()
    pairs = [(ids(5, 6), ids(*range(10, 10 + n))) for n in (1, 7, 30)]
    batch = padded_pairs(pairs, max_length=24)
    token_ids, types, positions, lengths = batch
    mask = (torch.arange(token_ids.shape[1]) < lengths[:, None]).long()
    with torch.no_grad():
        expected = student(
            token_ids, token_type_ids=types, position_ids=positions, attention_mask=mask
        ).logits[:, 0]
        assert torch.allclose(logits(student, *batch), expected, atol=1e-6)
    assert lengths.tolist() == [6, 12, 24]


def test_scores_come_back_in_the_order_given() -> None:
    student = tiny_student()
    pairs = [(ids(5), ids(*range(10, 10 + n))) for n in (3, 40, 1, 20)]
    with torch.no_grad():
        together = score_pairs(student, pairs, max_length=64)
        alone = torch.cat([score_pairs(student, [pair], max_length=64) for pair in pairs])
    assert torch.allclose(together, alone, atol=1e-5)


def test_an_offset_moves_only_the_positions_of_the_passage() -> None:
    _, _, plain, _ = padded_pairs([(ids(5, 6), ids(7, 8))], max_length=16)
    _, _, moved, lengths = padded_pairs([(ids(5, 6), ids(7, 8))], max_length=16, offset=100)
    assert (moved - plain)[0, : int(lengths[0])].tolist() == [0, 0, 0, 0, 100, 100, 100]


def test_own_passage_loss_falls_when_its_score_rises() -> None:
    targets = torch.zeros(1, 3)
    low, high = torch.zeros(1, 3), torch.tensor([[3.0, 0.0, 0.0]])
    assert list_loss(low, targets, own_passage_weight=0.0).item() == pytest.approx(0.0)
    assert list_loss(high, targets, own_passage_weight=5.0) < list_loss(
        low, targets, own_passage_weight=5.0
    )


def test_weight_average_of_constant_weights_reaches_them() -> None:
    average = WeightAverage(tiny_student(seed=1), steps=5)
    constant = tiny_student(seed=2)
    for _ in range(200):
        average.update(constant)
    mine, theirs = average.student.state_dict(), constant.state_dict()
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-3) for name in mine)


def made_lists() -> tuple[Lists, TokenStore, TokenStore]:
    """Queries of one word; passages of odd number are the good ones."""
    words = WORDS[1:]
    tokenizer = word_tokenizer()
    rng = np.random.default_rng(0)
    candidates = np.stack([np.roll(np.arange(8), -(n % 8))[:4] for n in range(64)])
    targets = (4.0 * (candidates % 2)).astype(np.float32)
    query = np.arange(64) % 8
    order = rng.permutation(64)
    lists = Lists(query[order], candidates[order], targets[order], np.ones(64, dtype=np.float32))
    texts = [f"{word} {word}" for word in words]
    return (
        lists,
        TokenStore(words, tokenizer, max_tokens=8),
        TokenStore(texts, tokenizer, max_tokens=8),
    )


def test_training_learns_goes_on_after_a_stop_and_stops_when_done(tmp_path: Path) -> None:
    lists, queries, passages = made_lists()
    folder = tmp_path

    def loss(student: BertForSequenceClassification) -> dict[str, float]:
        pairs = [(queries[int(q)], passages[int(c)]) for q, row in zip(lists.query, lists.candidates, strict=True) for c in row]  # fmt: skip  # noqa: E501
        with torch.no_grad():
            scores = score_pairs(student, pairs, max_length=32).view(lists.candidates.shape)
        value = list_loss(scores, torch.from_numpy(lists.targets), own_passage_weight=0.0)
        return {"validation loss": value.item()}

    def run(n_lists: int) -> float:
        schedule = Schedule(
            lists=n_lists,
            minutes=5.0,
            lists_per_step=16,
            learning_rate=1e-2,
            average_steps=5,
            stretched_share=0.0,
            own_passage_weight=0.0,
            bfloat16=False,
        )
        student = train(
            tiny_student(),
            lists,
            queries,
            passages,
            schedule=schedule,
            folder=folder,
            validate=loss,
            validate_every_s=0.0,
        )
        return loss(student)["validation loss"]

    before = loss(tiny_student())["validation loss"]
    first = run(160)
    steps = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert steps == [*range(1, 11), 10]
    assert first < 0.9 * before
    second = run(480)
    steps = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert steps == [*range(1, 11), *range(10, 31), 30]
    assert second < first
    assert run(480) == pytest.approx(second)


def test_a_stretched_passage_still_holds_its_own() -> None:
    pairs = [(ids(1), ids(2, 3)), (ids(4), ids(5, 6, 7))]
    for seed in range(5):
        stretched = stretched_pairs(pairs, np.random.default_rng(seed))
        for (query, passage), (same, longer) in zip(pairs, stretched, strict=True):
            assert query.tolist() == same.tolist()
            own, text = passage.tolist(), longer.tolist()
            assert text[: len(own)] == own or text[-len(own) :] == own
            assert len(text) >= len(own) + 2


def test_the_tables_are_those_of_the_results() -> None:
    from training.figures import tables

    for path, page in tables().items():
        assert path.read_text("utf-8") == page, "type: python -m training.figures"


def test_the_mean_of_students_is_that_of_their_weights() -> None:
    first, second = tiny_student(), tiny_student()
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(2.0)
    before = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    mean = mean_student([first, second]).state_dict()
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert torch.allclose(mean[name].float(), tensor.float() + 1.0, atol=1e-6)
