"""Asks the policy about a move, and gathers what it wants to know only if it wants to know anything.

What the registry itself knows is read from its database first; files, signatures and other servers are looked at after
that, when nobody has to wait for the database any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

from shardflow.registry.facts import VersionFacts
from shardflow.registry.tables import Database
from shardflow.registry.terms import Facts, Move, Refusal

NO_FACTS = Facts(metrics={}, production=None)
AT_HAND = frozenset({"author", "entered_at"})
"""Facts that are read with the version itself."""


class Judge(Protocol):
    """What the store needs of a policy."""

    def needs(self, move: Move) -> frozenset[str]:
        """The names of the facts that a judgement of this move rests on; none if it is judged as it is."""

    def judge(self, move: Move, facts: Facts) -> tuple[Refusal, ...]:
        """Why the move is not allowed; nothing if it is."""


P = TypeVar("P", bound=Judge)


@dataclass(frozen=True, slots=True)
class Hearing:
    """What a policy said about a move, and on what grounds."""

    move: Move
    refusals: tuple[Refusal, ...]
    grounds: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case(Generic[P]):
    """A move with what the registry knows for its judgement."""

    policy: P
    move: Move
    known: VersionFacts
    """What is known of its version anyway."""
    needs: frozenset[str]
    subject: Any = None
    """What else is known of it, if the policy wants facts that have to be looked up."""


@dataclass(frozen=True, slots=True)
class Gate(Generic[P]):
    """Where the policy comes from, asked anew for every move because its file may change, and its facts."""

    policy: Callable[[], P]
    look: Callable[[Database, VersionFacts, frozenset[str]], Any]
    """Reads what the registry knows that facts of these names rest on."""
    gather: Callable[[P, Move, frozenset[str], Any], Facts]
    """Finds the facts of these names for the version that is to move, from what `look` has read."""

    def wants_facts(self, moves: Iterable[Move]) -> bool:
        """Whether anything has to be looked up for one of these moves."""
        policy = self.policy()
        return any(policy.needs(move) - AT_HAND for move in moves)

    def case(self, db: Database, move: Move, known: VersionFacts) -> Case[P]:
        """Read what the registry has to tell about a move."""
        policy = self.policy()
        needs = policy.needs(move)
        return Case(policy, move, known, needs, None if needs <= AT_HAND else self.look(db, known, needs))

    def hear(self, case: Case[P]) -> Hearing:
        """Let the policy judge a move."""
        if case.needs <= AT_HAND:
            at_hand = replace(NO_FACTS, author=case.known.author, entered_at=case.known.entered_at)
            return Hearing(case.move, case.policy.judge(case.move, at_hand))
        facts = self.gather(case.policy, case.move, case.needs, case.subject)
        return Hearing(case.move, case.policy.judge(case.move, facts), _grounds(facts))


def _grounds(facts: Facts) -> dict[str, Any]:
    """The evidence that was before the policy, as the trail keeps it."""
    grounds = {
        "verdicts": [f"{one.suite}: {'passed' if one.passed else 'failed'}, by {one.by}" for one in facts.verdicts],
        "approvals": [f"{one.person} for {one.after}, by {one.by}" for one in facts.approvals],
        "signed_by": list(facts.signed_by),
    }
    return {name: found for name, found in grounds.items() if found}
