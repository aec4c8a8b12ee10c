"""doctor: examines this machine and a store, and says for each thing whether it is well and what helps if not."""

from __future__ import annotations

from shardflow.store.care.finding import Finding
from shardflow.store.care.machine import machine_findings
from shardflow.store.care.probing import store_findings
from shardflow.store.location import Options

__all__ = ["Finding", "diagnose"]


def diagnose(url: str | None = None, options: Options = None) -> list[Finding]:
    """Findings about this machine, and about a store if its URL is given. Nothing raises: failures are findings."""
    findings = list(machine_findings())
    if url is not None:
        findings += store_findings(url, options)
    return findings
