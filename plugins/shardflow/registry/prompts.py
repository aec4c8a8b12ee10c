"""Tells MLflow's prompts from models: they share the registry's methods and tables, and have no lifecycle.

Prompts pass the gate, so no model becomes one, and none has files that could be loaded as a model's.
"""

from __future__ import annotations

from collections.abc import Iterable

from mlflow.entities.model_registry import RegisteredModelTag
from mlflow.prompt import constants
from mlflow.store.model_registry.dbmodels.models import SqlRegisteredModelTag
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME
from sqlalchemy import bindparam, select

from shardflow.registry.audit import CREATED
from shardflow.registry.refusals import CONFLICT, Refused
from shardflow.registry.spelling import is_spelt
from shardflow.registry.tables import Database

TAG: str = constants.IS_PROMPT_TAG_KEY
_TAGS = SqlRegisteredModelTag.__table__
_OF_MODEL = select(_TAGS.c.key, _TAGS.c.value).where(
    _TAGS.c.workspace == DEFAULT_WORKSPACE_NAME, _TAGS.c.name == bindparam("model"), _TAGS.c.key == TAG
)
_NO_SOURCES = frozenset({"dummy-source", "prompt-template"}) | getattr(
    constants, "_PROMPT_SOURCE_PLACEHOLDERS", frozenset()
)
"""What MLflow writes where the source of a model would be; the names that a release has for it may change."""


def is_prompt(db: Database, model: str) -> bool:
    """Whether a registered model is a prompt, which MLflow tells by a tag."""
    # Some databases find a key in other letters too, and MLflow would not.
    found = db.execute(_OF_MODEL, {"model": model})
    return any(row.key == TAG and _is_true(row.value) for row in found)


def is_prompt_tagged(tags: Iterable[RegisteredModelTag]) -> bool:
    """The same, for one that is to be registered with these tags."""
    return _is_true({tag.key: tag.value for tag in tags}.get(TAG))


def makes_a_prompt(key: str) -> bool:
    """Whether a tag is the one that only prompts have, in any spelling that a database takes for it."""
    return is_spelt(key, TAG)


def misplaced(model: str, action: str, version: int | None = None) -> Refused:
    """Why a model does not get the tag of a prompt."""
    remedy, found = "register a prompt under a name of its own", "a model does not become a prompt"
    return Refused(remedy, found, action=action, model=model, version=version, after=TAG)


def without_files(prompt: str, source: str) -> None:
    """Refuse a version of a prompt that is one of a model in truth."""
    if source not in _NO_SOURCES:
        raise Refused(
            "register the model under another name",
            f"{prompt} is a prompt, and prompts have no files",
            action=CREATED,
            model=prompt,
            after=source,
        )


def unchanged(db: Database, model: str, source: str, *, prompt: bool) -> None:
    """Refuse a version of what was no prompt when it was looked at and is one by now, or the other way round."""
    if is_prompt(db, model) == prompt:
        return
    if not prompt:
        without_files(model, source)
    raise Refused(
        "try again",
        f"{model} was registered anew while its version was looked at",
        action=CREATED,
        model=model,
        after=source,
        code=CONFLICT,
    )


def _is_true(value: str | None) -> bool:
    return value is not None and value.lower() == "true"
