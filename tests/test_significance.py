"""The randomisation test against scipy's, Holm against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, permutation_test

from rerank_plugins.errors import InvalidArgumentError
from rerank_plugins.evaluation import holm, randomisation_test

quarters = st.integers(-4, 4).map(lambda value: value / 4)


@settings(deadline=None)
@given(st.lists(st.tuples(quarters, quarters), min_size=2, max_size=10))
def test_few_queries_give_the_exact_p_value_of_scipy(pairs: list[tuple[float, float]]) -> None:
    values, baseline = zip(*pairs, strict=True)
    expected = permutation_test(
        (np.subtract(values, baseline),),
        lambda differences, axis: np.mean(differences, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
        alternative="two-sided",
    )
    # scipy doubles the smaller tail, which is this test's p-value by symmetry, capped at 1.
    assert randomisation_test(values, baseline) == pytest.approx(min(1.0, expected.pvalue))


def test_many_queries_give_nearly_the_p_value_of_a_t_test() -> None:
    generator = np.random.default_rng(5)
    baseline = generator.random(400)
    values = baseline + generator.normal(0.02, 0.2, 400)
    differences = values - baseline
    t = differences.mean() / (differences.std(ddof=1) / 20.0)
    expected = 2 * norm.sf(abs(t))
    assert 0.001 < expected < 0.9
    assert randomisation_test(list(values), list(baseline)) == pytest.approx(expected, abs=0.02)


def test_the_same_question_has_the_same_answer() -> None:
    values = [i / 37 % 1 for i in range(50)]
    baseline = [i / 23 % 1 for i in range(50)]
    assert randomisation_test(values, baseline) == randomisation_test(values, baseline)
    assert randomisation_test(values, baseline) == randomisation_test(baseline, values)


def test_a_difference_that_is_none_is_certain_to_be_chance() -> None:
    assert randomisation_test([0.5, 0.25], [0.5, 0.25]) == 1.0


def test_a_p_value_is_never_zero() -> None:
    assert 0 < randomisation_test([1.0] * 100, [0.0] * 100) < 0.001


def test_mappings_are_paired_by_query() -> None:
    values, baseline = {"a": 1.0, "b": 0.5, "c": 1.0}, {"c": 0.0, "b": 0.25, "a": 0.5}
    paired = randomisation_test([1.0, 0.5, 1.0], [0.5, 0.25, 0.0])
    assert randomisation_test(values, baseline) == paired
    with pytest.raises(InvalidArgumentError, match="values of the same queries"):
        randomisation_test(values, {"a": 1.0})
    with pytest.raises(InvalidArgumentError, match="3 values cannot be paired with 1"):
        randomisation_test([1.0, 2.0, 3.0], [1.0])


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float]) -> None:
    for level in (0.01, 0.05, 0.5):
        order = sorted(range(len(p_values)), key=lambda i: p_values[i])
        rejected: set[int] = set()
        for step, place in enumerate(order):
            if p_values[place] * (len(p_values) - step) > level:
                break
            rejected.add(place)
        adjusted = holm(p_values)
        assert {i for i, p in enumerate(adjusted) if p <= level} == rejected


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_finite_number_is_named(value: float) -> None:
    with pytest.raises(InvalidArgumentError, match=r"values\[1\] is (nan|inf)"):
        randomisation_test([0.1, value], [0.2, 0.3])
    with pytest.raises(InvalidArgumentError, match=r"baseline\[0\] is (nan|inf)"):
        randomisation_test([0.1, 0.2], [value, 0.3])
