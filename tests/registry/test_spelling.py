"""Names as databases may read them: what some of them take for a reserved name is reserved, and nothing else is."""

from __future__ import annotations

import pytest

from shardflow.registry.claims import is_reserved
from shardflow.registry.prompts import makes_a_prompt
from shardflow.registry.reserved_aliases import is_reserved_alias
from shardflow.registry.spelling import is_spelt

PRODUCTION = [
    "production",
    "Production",
    "prodüction",
    "PRODUCTIÓN",
    "\uff50roduction",
    "\u1d56roduction",
    "production\n",
]
TESTING = ["teßting", "te\ufb06ing", "test\u0131ng", "te\u017fting"]
SEMANTIC = ["v1-4-0", "V1-4-0", "v1-4-\uff10", "v1-4-\u0660", "\u1e7d1-4-0", "v1-4-0-rc_1"]
FREE = ["champion", "producer", "productions", "v1", "v1-4", "1-4-0", "\u751f\u4ea7", "über", "été", "réduction", ""]


@pytest.mark.parametrize("alias", [*PRODUCTION, *TESTING, *SEMANTIC])
def test_an_alias_that_a_database_may_take_for_one_of_the_registry_is_reserved(alias: str) -> None:
    assert is_reserved_alias(alias)


@pytest.mark.parametrize("alias", FREE)
def test_an_alias_that_no_database_takes_for_one_of_the_registry_is_free(alias: str) -> None:
    assert not is_reserved_alias(alias)


@pytest.mark.parametrize(
    "key", ["shardflow.x", "SHARDFLOW.x", "shârdflow.x", " shardflow.x", "\u017fhardflow.x", "ßhardflow.x"]
)
def test_a_tag_is_reserved_however_its_beginning_is_spelt(key: str) -> None:
    assert is_reserved(key)


@pytest.mark.parametrize("key", ["shardflow", "shardflows.x", "x.shardflow.y", "mlflow.user", "\u6a21\u578b", "s"])
def test_other_tags_are_free(key: str) -> None:
    assert not is_reserved(key)


def test_the_tag_of_prompts_is_known_in_every_spelling() -> None:
    assert makes_a_prompt("MLflow.Prompt.Is_Prömpt")
    assert not makes_a_prompt("mlflow.prompt.is_prompts")


def test_a_letter_that_is_read_in_several_ways_is_one_or_two_of_any() -> None:
    assert is_spelt("ætna", "aetna")
    assert is_spelt("ætna", "atna")
    assert not is_spelt("ætna", "etna and more")
