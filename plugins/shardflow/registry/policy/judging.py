"""A policy as the registry uses it: what has to be found out about a move, and what is missing for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from shardflow.registry.policy.parsing import parsed
from shardflow.registry.policy.requirements import Requirement
from shardflow.registry.policy.rules import Rules, TrustedKey
from shardflow.registry.terms import Facts, Move, Refusal


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules from one file; or the reason why that file is of no use, and then every move is refused."""

    name: str
    rules: Rules = field(default_factory=lambda: Rules({}, {}, ()))
    broken: str | None = None

    @classmethod
    def load(cls, text: str, name: str) -> Policy:
        """The policy in a text; PolicyInvalid, with line and column, if it is none."""
        return cls(name, parsed(text, name))

    @property
    def keys(self) -> Mapping[str, TrustedKey]:
        """Whose signatures count, by the names that the rules use."""
        return self.rules.keys

    def needs(self, move: Move) -> frozenset[str]:
        """The fields of Facts that a judgement of this move looks at."""
        return frozenset[str]().union(*(each.needs for each in self._requirements(move)))

    def judge(self, move: Move, facts: Facts) -> tuple[Refusal, ...]:
        """Everything that is missing for a move; nothing if it is allowed."""
        if self.broken is not None:
            return (Refusal("policy", "mend the policy of this server", self.broken),)
        found = (refusal for each in self._requirements(move) for refusal in each.lacking(move, facts))
        return tuple(dict.fromkeys(found))

    def _requirements(self, move: Move) -> Iterator[Requirement]:
        for rule in self.rules.rules:
            if rule.covers(move):
                yield from rule.requirements
