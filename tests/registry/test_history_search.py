"""Searches for rows of the history: they come in pages, within the limits that MLflow's own searches have."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

from registry.opened import Registry

QUESTIONS = ["shardflow.history = '*'", "shardflow.deployments = '*'", "shardflow.head = '*'"]


def refusal(store: SqlAlchemyStore, question: str | None, **page: Any) -> tuple[str, str]:
    with pytest.raises(MlflowException) as refused:
        store.search_model_versions(question, **page)
    return refused.value.error_code, refused.value.message


def test_a_page_that_mlflow_would_not_give_is_refused_in_its_words(
    any_registry: Registry, stock_store: SqlAlchemyStore
) -> None:
    for most in (0, -1, -5, 200_001, 10**15, "2", None):
        by_mlflow = refusal(stock_store, None, max_results=most)
        assert {refusal(any_registry.store, question, max_results=most) for question in QUESTIONS} == {by_mlflow}


def test_a_token_that_no_page_came_with_is_refused(any_registry: Registry) -> None:
    for token in ("9" * 30, "9" * 5000, "\u00b2", "\u0665", "-1", "x", "1 OR 1", "\0"):
        for question in QUESTIONS:
            code, message = refusal(any_registry.store, question, page_token=token)
            assert code == "INVALID_PARAMETER_VALUE"
            assert message.startswith("Invalid page token")
            assert len(message) < 100


def test_pages_follow_one_another(any_registry: Registry) -> None:
    any_registry.register(versions=3)
    ask = any_registry.store.search_model_versions
    first = ask("shardflow.history = 'llama'", max_results=3)
    second = ask("shardflow.history = 'llama'", max_results=3, page_token=first.token)
    assert [len(first), len(second), second.token] == [3, 1, None]
    assert len(ask("shardflow.history = 'llama'", max_results=200_000, page_token="")) == 4
