"""MLflow's registry store with a gate before everything that changes a registered model.

Every method does what MLflow's does, as part of one act (`acts`) that also keeps the registry's own tables
and its trail. Prompts share these methods with models; they have no lifecycle and pass untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlflow.entities.model_registry import ModelVersion, ModelVersionTag, RegisteredModel, RegisteredModelTag
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.model_registry import SEARCH_MODEL_VERSION_MAX_RESULTS_DEFAULT as MOST_FOUND

from shardflow.registry.actors import current_actor
from shardflow.registry.acts import Act, looking
from shardflow.registry.audit import CREATED, DELETED, DESCRIBED, RENAMED, TAGGED
from shardflow.registry.claims import Claims, is_reserved
from shardflow.registry.gated import GatedStore, number_of
from shardflow.registry.history_search import answer_to, asked_history
from shardflow.registry.leaving import childless, forget, take_along, unused
from shardflow.registry.lifecycle import ALIASED, IN_USE, status_of_stage
from shardflow.registry.lineage_recording import with_parents
from shardflow.registry.moving import STATUS_TAG, alias_target, follow, standings
from shardflow.registry.naming import name_of, require_name
from shardflow.registry.promoting import now
from shardflow.registry.prompts import is_prompt, is_prompt_tagged, makes_a_prompt, misplaced, unchanged, without_files
from shardflow.registry.questions import answer
from shardflow.registry.refusals import Refused
from shardflow.registry.registering import applied, born, claims_at_birth, claims_of_tag
from shardflow.registry.reserved_aliases import ALIAS, is_reserved_alias, not_set, stays
from shardflow.registry.showing import shown
from shardflow.registry.terms import Status
from shardflow.registry.versions import alias_of


class ShardflowRegistryStore(GatedStore):
    """MLflow's registry in a database, with lifecycle, policy and history."""

    # Moves, in each of their words. MLflow's method ends each: it answers, and says what is wrong with a request.

    def transition_model_version_stage(
        self, name: str, version: int | str, stage: str, archive_existing_versions: bool
    ) -> ModelVersion:
        by_mlflow = super().transition_model_version_stage
        after = status_of_stage(stage)
        if archive_existing_versions and after not in IN_USE:
            return by_mlflow(name, version, stage, archive_existing_versions)

        return self._moved(
            name,
            version,
            after,
            "stage",
            lambda: by_mlflow(name, version, stage, archive_existing_versions=False),  # that is done by then
            untouched=lambda: by_mlflow(name, version, stage, archive_existing_versions),
            moved=lambda db: shown(db, name, int(version)),
            archive_others=archive_existing_versions,
        )

    def set_registered_model_alias(self, name: str, alias: str, version: int | str) -> None:
        by_mlflow = super().set_registered_model_alias
        number = number_of(version)
        if number is None:
            by_mlflow(name, alias, version)
            return

        def pointed(act: Act) -> None:
            before = alias_target(act.db, name, alias)
            by_mlflow(name, alias, number)
            if before != number:
                words = None if before is None else f"{alias}: {before}", f"{alias}: {number}"
                self._note(act, ALIAS, name, number, *words)

        if alias in ALIASED:
            self._moved(name, number, Status(alias), "alias", lambda: by_mlflow(name, alias, version), unmoved=pointed)
            return
        with self._act() as act:
            if not self._is_gated(act, name, ALIAS, number):
                by_mlflow(name, alias, version)
            elif is_reserved_alias(alias):
                raise not_set(name, number, alias)
            else:
                pointed(act)

    def set_model_version_tag(self, name: str, version: int | str, tag: ModelVersionTag) -> None:
        by_mlflow = super().set_model_version_tag
        number = number_of(version)
        if number is None or not _is_ours(tag.key):
            by_mlflow(name, version, tag)
            return
        claims = claims_of_tag(name, number, tag.key, tag.value)
        if isinstance(claims, Claims) and claims.wish:
            shown = ModelVersionTag(STATUS_TAG, claims.wish.status.value)
            self._moved(
                name,
                number,
                claims.wish.status,
                "tag",
                lambda: by_mlflow(name, version, shown),
                untouched=lambda: by_mlflow(name, version, tag),
                reason=claims.wish.reason,
            )
            return
        with self._act() as act:
            if not self._is_gated(act, name, TAGGED, number):
                by_mlflow(name, version, tag)
                return
            if isinstance(claims, Refused):
                raise claims
            self._get_sql_model_version(act.session, name, number)
            here = next(one for one in standings(act.db, name, number) if one.facts.version == number)
            act.note(*applied(act.db, here, claims, current_actor(), now()))

    # What is registered

    def create_registered_model(
        self,
        name: str,
        tags: Sequence[RegisteredModelTag] | None = None,
        description: str | None = None,
        deployment_job_id: str | None = None,
    ) -> RegisteredModel:
        by_mlflow = super().create_registered_model
        with self._act() as act:
            if is_prompt_tagged(tags or ()):
                return by_mlflow(name, tags, description, deployment_job_id)
            for tag in tags or ():
                if is_reserved(tag.key):
                    raise _no_such_tag(name, tag.key)
            made = by_mlflow(name, tags, description, deployment_job_id)
            self._note(act, CREATED, name)
        return made

    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: Sequence[ModelVersionTag] | None = None,
        run_link: str | None = None,
        description: str | None = None,
        local_model_path: str | None = None,
        model_id: str | None = None,
    ) -> ModelVersion:
        by_mlflow = super().create_model_version
        with self._refusals_noted(), looking(self._reading) as reading:
            if prompt := is_prompt(reading, name):
                without_files(name, source)
            else:
                claims = claims_at_birth(reading, name, source, {tag.key: tag.value for tag in tags or ()})
                claims = with_parents(claims, source, reading, self._tracking)
        if prompt:
            shown = list(tags or ())
        else:
            shown = [tag for tag in tags or () if not is_reserved(tag.key)]
            shown += [ModelVersionTag(key, value) for key, value in claims.shown]
            shown.append(ModelVersionTag(STATUS_TAG, Status.DRAFT.value))
        with self._act() as act:
            made = by_mlflow(name, source, run_id, shown, run_link, description, local_model_path, model_id)
            unchanged(act.db, name, source, prompt=prompt)
            if prompt:
                return made
            require_name(name_of(act.db, name), name, CREATED)
            act.note(*born(act.db, name, int(made.version), source, claims, current_actor(), now()))
        if claims.semantic:
            made.aliases = [*made.aliases, alias_of(claims.semantic)]
        return made

    def copy_model_version(self, src_mv: ModelVersion, dst_name: str) -> ModelVersion:
        begins_anew = ModelVersion.from_dictionary(
            {**dict(src_mv), "tags": [ModelVersionTag(*one) for one in src_mv.tags.items() if not is_reserved(one[0])]}
        )
        return super().copy_model_version(begins_anew, dst_name)

    def search_model_versions(
        self,
        filter_string: str | None = None,
        max_results: int = MOST_FOUND,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[ModelVersion]:
        ours = answer(filter_string, self.ManagedSessionMaker, self._gate)
        if ours is not None:
            return PagedList(ours, None)
        history = asked_history(filter_string)
        if history is None:
            return super().search_model_versions(filter_string, max_results, order_by, page_token)
        with self.ManagedSessionMaker() as session:
            return PagedList(*answer_to(session, history, max_results, page_token))

    # What is changed without a move

    def update_registered_model(
        self, name: str, description: str | None, deployment_job_id: str | None = None
    ) -> RegisteredModel:
        by_mlflow = super().update_registered_model
        with self._act() as act:
            gated = self._is_gated(act, name, DESCRIBED)
            changed = by_mlflow(name, description, deployment_job_id)
            if gated:
                self._note(act, DESCRIBED, name)
        return changed

    def update_model_version(self, name: str, version: int | str, description: str | None = None) -> ModelVersion:
        by_mlflow = super().update_model_version
        with self._act() as act:
            gated = self._is_gated(act, name, DESCRIBED, number_of(version))
            changed = by_mlflow(name, version, description)
            if gated:
                self._note(act, DESCRIBED, name, int(changed.version))
        return changed

    def rename_registered_model(self, name: str, new_name: str) -> RegisteredModel:
        by_mlflow = super().rename_registered_model
        with self._act() as act:
            if not self._is_gated(act, name, RENAMED):
                return by_mlflow(name, new_name)
            unused(act.db, name, None, RENAMED, new_name)
            renamed = by_mlflow(name, new_name)
            take_along(act.db, name, new_name)
            self._note(act, RENAMED, name, None, name, new_name)
        return renamed

    def set_registered_model_tag(self, name: str, tag: RegisteredModelTag) -> None:
        by_mlflow = super().set_registered_model_tag
        self._with_tag_of_model(name, tag.key, lambda: by_mlflow(name, tag))

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        by_mlflow = super().delete_registered_model_tag
        self._with_tag_of_model(name, key, lambda: by_mlflow(name, key))

    # What is taken away

    def delete_registered_model(self, name: str) -> None:
        by_mlflow = super().delete_registered_model
        with self._act() as act:
            if not self._is_gated(act, name, DELETED):
                by_mlflow(name)
                return
            unused(act.db, name, None, DELETED)
            childless(act.db, name)
            by_mlflow(name)
            forget(act.db, name)
            self._note(act, DELETED, name)

    def delete_model_version(self, name: str, version: int | str) -> None:
        by_mlflow = super().delete_model_version
        number = number_of(version)
        if number is None:
            by_mlflow(name, version)
            return
        with self._act() as act:
            if not self._is_gated(act, name, DELETED, number):
                by_mlflow(name, version)
                return
            unused(act.db, name, number, DELETED)
            by_mlflow(name, number)
            forget(act.db, name, number)
            follow(act.db, name, number)
            self._note(act, DELETED, name, number)

    def delete_model_version_tag(self, name: str, version: int | str, key: str) -> None:
        by_mlflow = super().delete_model_version_tag
        if not _is_ours(key):
            by_mlflow(name, version, key)
            return
        with self._act() as act:
            if self._is_gated(act, name, TAGGED, number_of(version)):
                raise Refused(
                    "set it instead", f"{key} is kept by the registry", action=TAGGED, model=name,
                    version=number_of(version), before=key,
                )  # fmt: skip
            by_mlflow(name, version, key)

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        by_mlflow = super().delete_registered_model_alias
        with self._act() as act:
            if not self._is_gated(act, name, ALIAS):
                by_mlflow(name, alias)
                return
            if is_reserved_alias(alias):
                raise stays(name, alias)
            before = alias_target(act.db, name, alias)
            by_mlflow(name, alias)
            if before is not None:
                self._note(act, ALIAS, name, before, f"{alias}: {before}")

    def _with_tag_of_model(self, name: str, key: str, by_mlflow: Callable[[], object]) -> None:
        if not _is_ours(key):
            by_mlflow()
            return
        with self._act() as act:
            if makes_a_prompt(key):
                raise misplaced(name, TAGGED)
            if self._is_gated(act, name, TAGGED):
                raise _no_such_tag(name, key)
            by_mlflow()


def _is_ours(key: str) -> bool:
    return is_reserved(key) or makes_a_prompt(key)


def _no_such_tag(model: str, key: str) -> Refused:
    remedy = "set it on a version, or choose another name"
    return Refused(remedy, f"{key} is kept for the registry", action=TAGGED, model=model, after=key)
