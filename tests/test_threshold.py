"""Thresholds against a search over every threshold there is."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rerank_plugins.errors import InvalidArgumentError
from rerank_plugins.evaluation import fit_threshold

SCORES = [4.0, 3.0, 2.0, 1.0, 0.0, -1.0]
RELEVANCE = [1, 1, 0, 1, 0, 0]
labelled = st.lists(
    st.tuples(st.integers(-5, 5).map(float), st.booleans()), min_size=2, max_size=20
)


def kept(rows: list[tuple[float, bool]], threshold: float) -> tuple[float, float]:
    """Return precision and recall of keeping what scores at least the threshold."""
    chosen = [relevant for score, relevant in rows if score >= threshold]
    return sum(chosen) / len(chosen), sum(chosen) / sum(relevant for _, relevant in rows)


@settings(deadline=None)
@given(labelled, st.sampled_from([0.5, 0.75, 0.9, 1.0]))
def test_precision_keeps_the_most_that_is_precise_enough(
    rows: list[tuple[float, bool]], wanted: float
) -> None:
    assume(len({relevant for _, relevant in rows}) == 2)
    scores, relevance = zip(*rows, strict=True)
    possible = {score: kept(rows, score) for score in scores}
    recalls = [recall for precision, recall in possible.values() if precision >= wanted]
    if not recalls:
        with pytest.raises(InvalidArgumentError, match="no threshold reaches 'precision@"):
            fit_threshold(scores, relevance, target=f"precision@{wanted}")
        return
    fitted = fit_threshold(scores, relevance, target=f"precision@{wanted}")
    assert fitted.precision >= wanted
    assert fitted.recall == pytest.approx(max(recalls))
    assert (fitted.precision, fitted.recall) == pytest.approx(possible[fitted.threshold])


@settings(deadline=None)
@given(labelled, st.sampled_from([0.2, 0.5, 0.9, 1.0]))
def test_recall_takes_the_highest_threshold_that_keeps_enough(
    rows: list[tuple[float, bool]], wanted: float
) -> None:
    assume(len({relevant for _, relevant in rows}) == 2)
    scores, relevance = zip(*rows, strict=True)
    fitted = fit_threshold(scores, relevance, target=f"recall@{wanted}")
    assert fitted.threshold == max(s for s in scores if kept(rows, s)[1] >= wanted)


@settings(deadline=None)
@given(labelled)
def test_f1_is_the_highest_there_is(rows: list[tuple[float, bool]]) -> None:
    assume(len({relevant for _, relevant in rows}) == 2)
    scores, relevance = zip(*rows, strict=True)

    def f1(threshold: float) -> float:
        precision, recall = kept(rows, threshold)
        return 2 * precision * recall / (precision + recall) if precision else 0.0

    fitted = fit_threshold(scores, relevance, target="f1")
    assert f1(fitted.threshold) == pytest.approx(max(f1(score) for score in scores))


def test_the_answer_says_what_it_was_fitted_on() -> None:
    fitted = fit_threshold(SCORES, RELEVANCE, target="precision@0.9")
    assert (fitted.threshold, fitted.precision) == (3.0, 1.0)
    assert fitted.recall == pytest.approx(2 / 3)
    assert (fitted.n, fitted.n_relevant, fitted.score_unit) == (6, 3, "logit")


def test_grades_below_the_least_relevance_do_not_count() -> None:
    fitted = fit_threshold(SCORES, [2, 1, 0, 0, 0, 0], target="recall@1", min_relevance=2)
    assert (fitted.threshold, fitted.n_relevant) == (4.0, 1)


@pytest.mark.parametrize(
    "target", ["precision", "precision@", "precision@2", "P@0.9", "recall@0", "x"]
)
def test_an_unknown_target_is_named(target: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"target is .* such as 'precision@0\.9'"):
        fit_threshold(SCORES, RELEVANCE, target=target)


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"highest precision on these 2 passages is 0\.500"
    ):
        fit_threshold([1.0, 2.0], [1, 0], target="precision@0.9")
    with pytest.raises(InvalidArgumentError, match="0 of 2 passages are relevant"):
        fit_threshold([1.0, 2.0], [0, 0], target="f1")
    with pytest.raises(InvalidArgumentError, match="2 scores and 1 judgements"):
        fit_threshold([1.0, 2.0], [0], target="f1")
    with pytest.raises(InvalidArgumentError, match=r"scores\[1\] is nan"):
        fit_threshold([1.0, float("nan")], [1, 0], target="f1")
    with pytest.raises(InvalidArgumentError, match=r"scores\[0\] is 1.5, which is no probability"):
        fit_threshold([1.5, 0.5], [1, 0], target="f1", score_unit="probability")
