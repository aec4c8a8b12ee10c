"""Every route by which MLflow's server could change a registry is tried as a way around the gate, or is harmless."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

import pytest

from registry.as_requests import ANSWERED_ELSEWHERE, AS_REQUESTS, HARMLESS, TRIED
from registry.bypasses import BYPASSES

REGISTRY = "_get_model_registry_store"
"""The one function by which MLflow's server comes to its registry."""

PREFIX = re.compile(r"/(?:ajax-)?api/\d\.\d/mlflow/")
READS = {"GET", "HEAD", "OPTIONS"}


def test_every_way_around_the_gate_is_tried_as_a_request_too() -> None:
    assert AS_REQUESTS.keys() == {one.name for one in BYPASSES}


@pytest.mark.filterwarnings("ignore:starlette.middleware.wsgi is deprecated")
def test_no_route_of_mlflow_that_reaches_the_registry_is_left_out() -> None:
    """A release of MLflow that adds one fails here: try to get around the gate with it, or say why it is harmless."""
    found = {(method, path) for method, path, function in routes() if reaches(function, REGISTRY)}
    assert {one for one in found if not one[1].startswith(ANSWERED_ELSEWHERE)} == {*TRIED, *HARMLESS}


@pytest.mark.filterwarnings("ignore:starlette.middleware.wsgi is deprecated")
def test_what_looks_for_routes_finds_the_registry_where_it_is_asked_for() -> None:
    """Or the test above would pass for want of sight."""
    from mlflow.server import handlers

    assert reaches(handlers._rename_registered_model, REGISTRY)
    assert reaches(lambda: handlers._get_model_registry_store().delete_webhook("1"), REGISTRY)
    assert not reaches(handlers._create_experiment, REGISTRY)
    assert len(list(routes())) > 100


def test_graphql_has_no_word_that_changes_a_model() -> None:
    from mlflow.server.graphql.graphql_schema_extensions import schema

    changes = schema.graphql_schema.mutation_type
    assert changes
    assert set(changes.fields) == {"mlflowSearchDatasets", "mlflowSearchRuns", "testMutation"}


def routes() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    """The method, the path below the API and the function of each route of a server that may change something."""
    from mlflow.server import app
    from mlflow.server.fastapi_app import app as outer

    for rule in app.url_map.iter_rules():
        for method in (rule.methods or set()) - READS:
            yield method, PREFIX.sub("", rule.rule), app.view_functions[rule.endpoint]
    yield from fastapi_routes(outer.routes)


def fastapi_routes(found: list[Any]) -> Iterator[tuple[str, str, Callable[..., Any]]]:
    for route in found:
        if hasattr(route, "original_router"):  # newer releases keep a router that was included as it is
            yield from fastapi_routes(route.original_router.routes)
        for method in (getattr(route, "methods", None) or set()) - READS:
            yield method, PREFIX.sub("", route.path), route.endpoint


def reaches(function: Any, name: str, seen: set[int] | None = None) -> bool:
    """Whether a function of MLflow's, or one that it calls or wraps, has this name in it."""
    seen = set() if seen is None else seen
    if not isinstance(function, FunctionType) or id(function) in seen:
        return False
    seen.add(id(function))
    if not function.__module__.startswith(("mlflow.", __name__)):
        return False
    names = set(words_of(function.__code__))
    wrapped = [cell.cell_contents for cell in function.__closure__ or () if cell.cell_contents is not None]
    called = [function.__globals__.get(each) for each in names]
    return name in names or any(reaches(each, name, seen) for each in [*called, *wrapped])


def words_of(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from words_of(constant)
