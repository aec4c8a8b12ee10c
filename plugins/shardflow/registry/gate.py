"""Asks the policy about a move, and gathers what it wants to know only if it wants to know anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

from shardflow.registry.facts import VersionFacts
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
class Gate(Generic[P]):
    """Where the policy comes from, asked anew for every move because its file may change, and its facts."""

    policy: Callable[[], P]
    gather: Callable[[P, Move, frozenset[str]], Facts]
    """Finds the facts of these names for the version that is to move."""

    def wants_facts(self, moves: Sequence[Move]) -> bool:
        """Whether anything has to be looked up for these moves."""
        policy = self.policy()
        return any(policy.needs(move) - AT_HAND for move in moves)

    def hear(self, move: Move, known: VersionFacts) -> Hearing:
        """Let the policy judge a move, about whose version so much is known anyway."""
        policy = self.policy()
        needs = policy.needs(move)
        if needs <= AT_HAND:
            at_hand = replace(NO_FACTS, author=known.author, entered_at=known.entered_at)
            return Hearing(move, policy.judge(move, at_hand))
        facts = self.gather(policy, move, needs)
        return Hearing(move, policy.judge(move, facts), _grounds(facts))


def _grounds(facts: Facts) -> dict[str, Any]:
    """The evidence that was before the policy, as the trail keeps it."""
    grounds = {
        "verdicts": [f"{one.suite}: {'passed' if one.passed else 'failed'}, by {one.by}" for one in facts.verdicts],
        "approvals": [f"{one.person} for {one.after}, by {one.by}" for one in facts.approvals],
        "signed_by": list(facts.signed_by),
    }
    return {name: found for name, found in grounds.items() if found}
