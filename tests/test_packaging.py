"""What users install: the wheels, built from the sdist as an index would have it, work away from the checkout."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from shardflow import __version__

ROOT = Path(__file__).parents[1]
TEMPLATE = "shardflow/dvc/template/"


def run(*argv: str | Path, cwd: Path) -> str:
    """A command that must succeed; its output."""
    done = subprocess.run(list(map(str, argv)), cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def built(source: Path, kind: str, into: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", into, cwd=source)
    (artifact,) = into.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return artifact


def wheel_of(sdist: Path, home: Path) -> Path:
    with tarfile.open(sdist) as archive:
        # Python 3.11 has filters from 3.11.4 on, and later ones warn where none is named.
        archive.extractall(home, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # type: ignore[arg-type]
    (source,) = home.iterdir()
    return built(source, "wheel", home)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel_of(sdist, tmp_path_factory.mktemp("unpacked"))


@pytest.fixture(scope="module")
def dvc_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sdist = built(ROOT / "dvc_ext", "sdist", tmp_path_factory.mktemp("dvc-sdist"))
    return wheel_of(sdist, tmp_path_factory.mktemp("dvc-unpacked"))


@pytest.fixture(scope="module")
def installed(wheel: Path, dvc_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheels; the dependencies it borrows from this one."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, symlinks=True)
    programs = home / "bin"
    run(sys.executable, "-m", "pip", "--python", programs / "python", "install", "--no-deps", "--no-index",
        "--disable-pip-version-check", wheel, dvc_wheel, cwd=home)  # fmt: skip
    site_packages = Path(
        run(programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home)
    )
    (site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return programs


def test_the_command_runs_where_the_wheel_is_installed(installed: Path, tmp_path: Path) -> None:
    assert __version__ in run(installed / "shardflow", "--version", cwd=tmp_path)


@pytest.mark.parametrize("package", ["codec", "store", "transport", "testing", "flavor", "dvc"])
def test_every_source_root_reaches_the_one_package(installed: Path, tmp_path: Path, package: str) -> None:
    where = run(installed / "python", "-c", f"import shardflow.{package} as p; print(p.__file__)", cwd=tmp_path)
    assert Path(where).is_relative_to(installed.parent)


def test_a_store_made_by_the_installed_command_reads_back(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"weights" * 100_000)
    for argv in (["init", "store"], ["put", "file", "store/file"], ["get", "store/file", "again"]):
        run(installed / "shardflow", *argv, cwd=tmp_path)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "file").read_bytes()


def test_the_wheels_hold_code_and_licence_and_nothing_else(wheel: Path, dvc_wheel: Path) -> None:
    hook = {"shardflow_dvc.pth", "shardflow_dvc.start", "shardflow_dvc_hook.py"}
    for path, also in ((wheel, {"shardflow/__init__.py", "shardflow/py.typed"}), (dvc_wheel, hook)):
        names = set(zipfile.ZipFile(path).namelist())
        code = {name for name in names if ".dist-info/" not in name and not name.startswith(TEMPLATE)}
        assert also <= code
        assert {name.partition("/")[0] for name in code - hook} == {"shardflow"}
        assert not [
            name for name in code - hook if "__pycache__" in name or not name.endswith((".py", ".typed", ".yaml"))
        ]
        assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert f"{TEMPLATE}dvc.yaml" in zipfile.ZipFile(dvc_wheel).namelist()


def test_plain_dvc_knows_stores_where_the_wheel_is_installed(installed: Path, tmp_path: Path) -> None:
    program = "from dvc.config_schema import SCHEMA; print(SCHEMA['remote'][str]({'url': 'shardflow://file/x'})['url'])"
    assert run(installed / "python", "-I", "-c", program, cwd=tmp_path) == "shardflow://file/x"


def test_uninstalling_takes_the_hook_away(installed: Path, tmp_path: Path) -> None:
    program = "from importlib.metadata import files; print(*sorted(str(f) for f in files('shardflow-dvc')), sep='\\n')"
    known_to_pip = run(installed / "python", "-I", "-c", program, cwd=tmp_path).splitlines()
    site_packages = next(installed.parent.glob("lib/python*/site-packages"))
    assert {path.name for path in site_packages.glob("shardflow_dvc[_.]*")} <= set(known_to_pip)
