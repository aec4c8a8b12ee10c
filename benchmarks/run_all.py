"""Run every benchmark, one after the other, and gather their figures in one JSON file and a table for the README."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness import machine, markdown
from harness.options import RESULTS

HERE = Path(__file__).parent
FOLDERS = {
    "codec": "codec/run",
    "flavor": "flavor/run",
    "dvc": "dvc/run",
    "dvc_checkpoints": "dvc/checkpoints",
    "checkpoints": "checkpoints/run",
    "incremental": "checkpoints/incremental",
    "registry": "registry/run",
}
WITH_SERVER = ("resume", "link", "s3_transfer", "memory", "small_files", "flavor", "checkpoints", "dvc")
ALONE = ("codec", "versions", "dvc_checkpoints", "incremental", "registry")
NAMES = (*WITH_SERVER, *ALONE)
SPEED = "codec_speed"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="tiny sizes: shows that all work, measures nothing")
    parser.add_argument("--only", nargs="+", choices=(*NAMES, SPEED), default=[*NAMES, SPEED], metavar="NAME")
    parser.add_argument("--server", choices=("auto", "ceph", "moto"), default="auto", help="which S3 server")
    parser.add_argument("--directory", type=Path, help="where to put data")
    parser.add_argument("--results", type=Path, default=RESULTS, help="a folder for all JSON (default: %(default)s)")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    arguments = parser.parse_args()
    arguments.results.mkdir(parents=True, exist_ok=True)
    failed = [name for name in arguments.only if not succeeded(name, arguments)]
    reports = {name: loaded(arguments.results / f"{name}.json") for name in arguments.only if name not in failed}
    everything = {"machine": machine.described(), "small": arguments.small, "benchmarks": reports, "failed": failed}
    (arguments.results / "all.json").write_text(json.dumps(everything, indent=2) + "\n")
    if arguments.markdown:
        arguments.markdown.write_text(markdown.page(reports))
    if failed:
        raise SystemExit(f"these failed: {', '.join(failed)}")


def succeeded(name: str, arguments: argparse.Namespace) -> bool:
    """Run one benchmark in its own process."""
    print(f"== {name}", flush=True)
    command = [
        sys.executable,
        str(HERE / f"{FOLDERS.get(name, name)}.py"),
        "--json",
        str(arguments.results / f"{name}.json"),
    ]
    if name == SPEED:
        command += ["--repeat", "3"] if arguments.small else []
    else:
        command += ["--small"] if arguments.small else []
        command += ["--directory", str(arguments.directory)] if arguments.directory else []
        command += ["--server", arguments.server] if name in WITH_SERVER else []
    return subprocess.run(command, check=False).returncode == 0


def loaded(path: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(path.read_text())
    return report


if __name__ == "__main__":
    main()
