"""Which moves of which models need which evidence: read from a file, and judged without looking anywhere else."""

from shardflow.registry.policy.errors import PolicyInvalid, PolicyUnreadable
from shardflow.registry.policy.finding import POLICY_FILE, POLICY_VARIABLE, default_policy, default_text, policy_for
from shardflow.registry.policy.judging import Policy
from shardflow.registry.policy.rules import TrustedKey

__all__ = [
    "POLICY_FILE",
    "POLICY_VARIABLE",
    "Policy",
    "PolicyInvalid",
    "PolicyUnreadable",
    "TrustedKey",
    "default_policy",
    "default_text",
    "policy_for",
]
