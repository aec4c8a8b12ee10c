"""Patterns mean what peft means by them, and no pattern takes long."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardflow.delta.patterns import MOST_FOLLOWED, MOST_LETTERS, ByPattern, PatternUnusable, fitting

NAME = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("q_proj", True),
        ("proj", False),
        ("self_attn.q_proj", True),
        ("model.layers.0.self_attn.q_proj", True),
        ("^model.layers.0.self_attn.q_proj", True),
        ("^layers.0.self_attn.q_proj", False),
        ("self_attn", False),
        (r"layers\.\d+\.self_attn\.(q|v)_proj", True),
        (r"layers\.[1-9]\d*\..*", False),
        (r".*_proj", True),
        (r"(?:k|v)_proj|q_proj$", True),
        (r"layers.[^1-9].self_attn.[kq]_proj", True),
        ("q_proj?", True),
        ("q_proj+?", True),
        ("(q_proj)??", True),
    ],
)
def test_a_pattern_is_what_a_name_ends_in_a_whole_part_of_it(pattern: str, fits: bool) -> None:
    assert bool(fitting(pattern)(NAME)) is fits
    assert bool(re.match(rf"(.*\.)?({pattern})$", NAME)) is fits


LETTERS = ["a", "b", "1", r"\.", ".", "[ab]", "[^a]", r"\d", r"\w", "-", "^", "$", "", "[]a]", r"[\]b-]"]
QUANTIFIERS = ["*", "+", "?", "*?", "+?", "??"]
expressions = st.recursive(
    st.sampled_from(LETTERS),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("|".join),
        inner.map("({})".format),
        st.tuples(inner, st.sampled_from(QUANTIFIERS)).map(lambda each: f"(?:{each[0]}){each[1]}"),
    ),
    max_leaves=8,
)


@given(expressions, st.text("ab1.-]\n", max_size=6))
@settings(max_examples=500)
def test_it_agrees_with_re_about_every_expression(pattern: str, name: str) -> None:
    assert bool(fitting(pattern)(name)) == bool(re.fullmatch(rf"(.*\.)?({pattern})", name))


@pytest.mark.parametrize("pattern", ["(a|a)*!", "(a*)*!", "(a+)+b*!", "(a|a)" * 60 + "!", "a?" * 60 + "a" * 60 + "!"])
def test_what_would_keep_re_busy_for_ever_takes_no_time(pattern: str) -> None:
    begun = time.monotonic()
    assert not fitting(pattern)("model." + "a" * 200)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("(", "not closed"),
        ("a)", "not opened"),
        ("(" * MOST_LETTERS, "not closed|recursion"),
        ("[a", "no meaning"),
        ("[b-a]", "bad character range"),
        ("*a", "no meaning"),
        ("a**", "quantifiers"),
        ("a*+", "quantifiers"),
        ("a{2}", "quantifiers"),
        (r"(a)\2", "no meaning"),
        (r"a\b", "no meaning"),
        ("(?=a)", "begins with"),
        ("(?i)a", "begins with"),
        ("a" * (MOST_LETTERS + 1), "longer than"),
    ],
)
def test_what_is_not_looked_for_is_named(pattern: str, told: str) -> None:
    with pytest.raises(PatternUnusable, match=told) as raised:
        fitting(pattern)
    assert repr(pattern)[1:41] in str(raised.value)


def test_the_first_pattern_that_fits_counts() -> None:
    values = ByPattern({"k_proj": 1.0, ".*_proj": 2.0, "q_proj": 3.0})
    assert values.of(NAME, 4.0) == 2.0
    assert values.of("k_proj", 4.0) == 1.0
    assert values.of("up", 4.0) == 4.0


def test_there_may_be_many_names_and_some_expressions() -> None:
    names = {f"model.layers.{number}.q_proj": float(number) for number in range(1000)}
    assert ByPattern(names).of("model.layers.999.q_proj", 0.5) == 999.0
    with pytest.raises(PatternUnusable, match="more than names"):
        ByPattern({f"({number}){'a?' * 200}": 1.0 for number in range(MOST_FOLLOWED // 400 + 1)})
