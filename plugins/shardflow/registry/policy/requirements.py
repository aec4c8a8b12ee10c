"""What a move can need, each with the facts it looks at and what it says when they are not there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

from shardflow.registry.terms import Facts, Move, Refusal, Verdict


class Requirement(Protocol):
    """One condition of a rule."""

    @property
    def needs(self) -> frozenset[str]:
        """The fields of Facts that it looks at."""
        ...

    def lacking(self, move: Move, facts: Facts) -> Iterator[Refusal]:
        """What is missing; nothing if the condition holds."""
        ...


@dataclass(frozen=True, slots=True)
class Bound:
    """A metric of the version lies where it should."""

    needs: ClassVar[frozenset[str]] = frozenset({"metrics"})
    metric: str
    at_least: float | None = None
    at_most: float | None = None

    def lacking(self, move: Move, facts: Facts) -> Iterator[Refusal]:
        del move
        value = facts.metrics.get(self.metric)
        if value is None:
            yield _no_metric("metrics", self.metric)
        elif self.at_least is not None and not value >= self.at_least:
            yield Refusal("metrics", f"get {self.metric} to {self.at_least:g} or more", f"it is {value:g}")
        elif self.at_most is not None and not value <= self.at_most:
            yield Refusal("metrics", f"get {self.metric} to {self.at_most:g} or less", f"it is {value:g}")


@dataclass(frozen=True, slots=True)
class Better:
    """A metric beats that of the version in production, if there is one, by a margin."""

    needs: ClassVar[frozenset[str]] = frozenset({"metrics", "production"})
    metric: str
    by: float
    lower_is_better: bool = False

    def lacking(self, move: Move, facts: Facts) -> Iterator[Refusal]:
        del move
        if facts.production is None:
            return
        value, present = facts.metrics.get(self.metric), facts.production.get(self.metric)
        if value is None:
            yield _no_metric("better_than_production", self.metric)
        elif present is None:
            yield Refusal(
                "better_than_production",
                f"log the metric {self.metric} on the version in production",
                "there is nothing to compare with",
            )
        elif not self._beats(value, present):
            wanted = present - self.by if self.lower_is_better else present + self.by
            more = "less" if self.lower_is_better else "more"
            yield Refusal(
                "better_than_production",
                f"get {self.metric} to {wanted:g} or {more}",
                f"it is {value:g}, and production has {present:g}",
            )

    def _beats(self, value: float, present: float) -> bool:
        gain = present - value if self.lower_is_better else value - present
        return gain >= self.by if self.by else gain > 0


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation passed: of each suite, the last one counts."""

    needs: ClassVar[frozenset[str]] = frozenset({"verdicts"})
    suite: str | None = None
    by: frozenset[str] | None = None

    def lacking(self, move: Move, facts: Facts) -> Iterator[Refusal]:
        last: dict[str, Verdict] = {}
        for verdict in sorted(facts.verdicts, key=lambda each: each.at):
            if self._counts(verdict):
                last[verdict.suite] = verdict
        failed = [verdict for verdict in last.values() if not verdict.passed]
        if failed:
            found = f"the last one of {failed[0].suite!r} failed"
            yield Refusal("evaluation", f"record a passing evaluation{self._of_suite()}", found)
        elif not last:
            found = f"{move.model}/{move.version} has none that counts{_why(facts)}"
            yield Refusal("evaluation", f"record an evaluation{self._of_suite()}{_by(self.by)}", found)

    def _counts(self, verdict: Verdict) -> bool:
        return (self.suite is None or verdict.suite == self.suite) and (self.by is None or verdict.by in self.by)

    def _of_suite(self) -> str:
        return f" of the suite {self.suite!r}" if self.suite else ""


@dataclass(frozen=True, slots=True)
class Approved:
    """So many people stand behind this very move."""

    count: int = 1
    people: frozenset[str] | None = None
    names: tuple[str, ...] = ()
    not_author: bool = True

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"approvals", "author"} if self.not_author else {"approvals"})

    def lacking(self, move: Move, facts: Facts) -> Iterator[Refusal]:
        if self.not_author and facts.author is None:
            yield Refusal(
                "approvals",
                "log the model in a run that says who made it",
                "nobody knows its author, who may not count",
            )
            return
        given = {approval.person for approval in facts.approvals if approval.after is move.after}
        counted = {person for person in given if self._counts(person, facts)}
        if len(counted) < self.count:
            yield Refusal("approvals", self._remedy(move), self._found(given, counted, facts))

    def _counts(self, person: str, facts: Facts) -> bool:
        return (self.people is None or person in self.people) and not (self.not_author and person == facts.author)

    def _remedy(self, move: Move) -> str:
        who = f" by {self.count} of {', '.join(self.names)}" if self.names else f" by {self.count}" * (self.count > 1)
        return f"get it approved{who}: shardflow approve {move.model}/{move.version} --for {move.after}"

    def _found(self, given: set[str], counted: set[str], facts: Facts) -> str:
        if self.not_author and facts.author in given and not counted:
            return "its author approved it, which does not count"
        if counted:
            return f"{len(counted)} of {self.count} approvals"
        return f"nobody whose word counts approved it{_why(facts)}"


@dataclass(frozen=True, slots=True)
class Signed:
    """The model's files are signed."""

    needs: ClassVar[frozenset[str]] = frozenset({"signed_by"})
    by: frozenset[str] | None = None

    def lacking(self, move: Move, facts: Facts) -> Iterator[Refusal]:
        if not (set(facts.signed_by) & self.by if self.by is not None else facts.signed_by):
            found = f"signed by {', '.join(facts.signed_by)} only"
            if not facts.signed_by:
                found = f"no signature holds{_why(facts)}"
            yield Refusal("signature", f"sign it{_by(self.by)}: shardflow sign {move.model}/{move.version}", found)


@dataclass(frozen=True, slots=True)
class Traced:
    """Where the version comes from is known."""

    needs: ClassVar[frozenset[str]] = frozenset({"lineage_gaps"})
    parts: frozenset[str]

    def lacking(self, move: Move, facts: Facts) -> Iterator[Refusal]:
        del move
        missing = [gap for gap in facts.lineage_gaps if gap in self.parts]
        if missing:
            parts = ", ".join(missing)
            yield Refusal("lineage", f"log the model with its {parts}", f"its lineage names no {parts}")


@dataclass(frozen=True, slots=True)
class Stayed:
    """The version has been where it is for a while."""

    needs: ClassVar[frozenset[str]] = frozenset({"entered_at"})
    seconds: float

    def lacking(self, move: Move, facts: Facts) -> Iterator[Refusal]:
        if facts.entered_at is None:
            yield Refusal("time_in_status", f"move it to {move.before} anew", "nobody knows since when it is there")
            return
        left = facts.entered_at + self.seconds - move.at
        if left > 0:
            stayed = _hours(move.at - facts.entered_at)
            yield Refusal("time_in_status", f"wait {_hours(left)} more", f"it is in {move.before} for {stayed}")


@dataclass(frozen=True, slots=True)
class Identified:
    """A server has checked who asks."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def lacking(self, move: Move, facts: Facts) -> Iterator[Refusal]:
        del facts
        if not move.actor.verified:
            yield Refusal(
                "verified_identity", "ask for it signed in to the server", f"{move.actor.name!r} was not checked"
            )


def _no_metric(rule: str, metric: str) -> Refusal:
    return Refusal(rule, f"log the metric {metric} on the model", "the model has none of that name")


def _by(keys: frozenset[str] | None) -> str:
    return f" by {' or '.join(sorted(keys))}" if keys else ""


def _why(facts: Facts) -> str:
    """What was handed in and does not count."""
    return f": {'; '.join(facts.dismissed)}" if facts.dismissed else ""


def _hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"
