"""What a recipe that came with a model may call without trust: classes of modules, from where they are installed."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from safetensors.torch import save_file

from flavor.models import NET, make_net, net, same
from shardflow import flavor
from shardflow.flavor.errors import CheckpointUnusable, NotRebuildable, TrustRequired
from shardflow.store.store import Store

MAKE_NET = "flavor.models:make_net"
EXTENTS = {"in_features": 2, "out_features": 2}
OURS = {"llama", "my_models", "my_code", "fetched"}
CODE = """
import pathlib, torch
pathlib.Path(__file__).with_name("ran").touch()
class Net(torch.nn.Linear):
    def __init__(self, in_features=2, out_features=2, kind=None):
        super().__init__(in_features, out_features)
        self.kind = kind
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory in which programs are started, so that what lies in it can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]


def model(directory: Path, function: str, **arguments: Any) -> Path:
    """A model as anybody may write one: weights, and a recipe that names what to call."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file({"weight": torch.ones(2, 2), "bias": torch.zeros(2)}, directory / "model.safetensors")
    rebuild = {"type": "factory", "function": function, "arguments": arguments}
    recipe = {"format": 1, "sharding": "single", "files": [], "aliases": {}, "rebuild": rebuild}
    (directory / "recipe.json").write_text(json.dumps(recipe))
    return directory


def code(directory: Path, package: bool = True) -> Path:
    """The file of a module `net`; it leaves a trace when it runs."""
    directory.mkdir(parents=True, exist_ok=True)
    if package:
        (directory / "__init__.py").touch()
    (directory / "net.py").write_text(CODE)
    return directory / "net.py"


def ran(file: Path) -> bool:
    return file.with_name("ran").exists()


# What a recipe may call.


def test_a_function_runs_for_those_who_trust_it_or_make_the_module_themselves(experiment: str) -> None:
    uri = flavor.log_model(net(), name="net", factory=MAKE_NET).model_uri
    with pytest.raises(TrustRequired, match=r"make_net is no class of modules.* pass trust=True .* or make the module"):
        flavor.load_model(uri)
    assert same(flavor.load_model(uri, trust=True), net())
    assert same(flavor.load_model(uri, into=make_net()), net())
    with pytest.raises(TrustRequired, match=r"model_config=\{'trust': True\}"):
        mlflow.pyfunc.load_model(uri)
    assert mlflow.pyfunc.load_model(uri, model_config={"trust": True}).get_raw_model().embed.weight is not None


@pytest.mark.parametrize(
    ("factory", "arguments", "why"),
    [
        (MAKE_NET, {}, "flavor.models:make_net is no class of modules"),
        ("torch.nn:Linear", EXTENTS | {"device": "/dev/null"}, "is to be called with '/dev/null'"),
        ("torch.nn:Linear", EXTENTS, ""),
    ],
)
def test_who_logs_what_only_trust_makes_again_is_warned(
    factory: str,
    arguments: dict[str, Any],
    why: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("mlflow"), "propagate", True)
    with caplog.at_level(logging.WARNING, "mlflow.shardflow"):
        flavor.save_model(make_net(), tmp_path / "saved", factory=factory, factory_arguments=arguments)
    told = {record.getMessage() for record in caplog.records if record.name == "mlflow.shardflow"}
    assert len(told) == bool(why)
    assert all(message.startswith("Loading this model will need trust=True: ") and why in message for message in told)


def test_text_that_came_with_a_model_does_not_become_code(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    text = {"body": {"_code": "def forward(self): pass\n"}, "import_block": f"open({str(trace)!r}, 'w')\n"}
    with pytest.raises(TrustRequired, match="is no class of modules"):
        flavor.load_model(str(model(tmp_path / "model", "torch.fx.graph_module:reduce_graph_module", **text)))
    assert not trace.exists()


@pytest.mark.parametrize(
    "name", ["torch.fx:GraphModule", "torch.jit:ScriptModule", "torch.export.unflatten:InterpreterModule"]
)
def test_of_the_classes_of_torch_only_its_layers_are_made(name: str, tmp_path: Path) -> None:
    with pytest.raises(TrustRequired, match="of torch's own classes only"):
        flavor.load_model(str(model(tmp_path, name)))
    loaded = flavor.load_model(str(model(tmp_path, "torch.nn:Linear", **EXTENTS)))
    assert torch.equal(loaded.weight, torch.ones(2, 2))


@pytest.mark.parametrize(
    "text",
    [
        "meta/llama",
        "a" * 5000,
        "evil.pt",
        "os.system",
        "https://example.org",
        "rm -rf",
        "a\nb",
        "evil",
        {"_target_": "a:b"},
    ],
)
def test_texts_that_may_lead_somewhere_are_given_to_no_class(text: object, here: Path) -> None:
    model(here / "evil", "my_models.net:Net", kind=text)
    code(here / "my_models")
    with pytest.raises(TrustRequired, match=r"is to be called with '.*, and may open, fetch or run what that names"):
        flavor.load_model("evil")
    assert flavor.load_model("evil", trust=True).kind == text


@pytest.mark.parametrize("text", ["gelu", "pre-norm", "float8_e4m3fn", "v1.5", "", {"norm": ["rms", 1.5, None, True]}])
def test_words_are_given_to_classes_of_other_packages(text: object, here: Path) -> None:
    code(here / "my_models")
    assert flavor.load_model(str(model(here / "llama", "my_models.net:Net", kind=text))).kind == text


# Where it may come from.


@pytest.mark.parametrize("package", [True, False])
@pytest.mark.parametrize("inside", [".", "weights"])
def test_code_beside_the_weights_is_not_imported(package: bool, inside: str, here: Path) -> None:
    weights = model(here / "llama" / inside, "llama.net:Net")
    if inside != ".":
        (here / "llama" / "MLmodel").touch()
    file = code(here / "llama", package)
    for place in ("llama", str(weights)):
        with pytest.raises(TrustRequired, match="llama came with the model"):
            flavor.load_model(place)
    assert not ran(file)
    assert isinstance(flavor.load_model("llama", trust=True), torch.nn.Linear)


def test_code_of_a_store_is_not_imported_from_the_copy(here: Path, store: Store) -> None:
    model(here / "made", "llama.net:Net")
    code(here / "made")
    store.put(here / "made", "llama")
    with pytest.raises(TrustRequired, match="llama came with the model"):
        flavor.load_model(f"{store.url}/llama", dst_path="llama")
    assert not ran(here / "llama" / "net.py")


def test_a_directory_is_no_package_by_being_there(here: Path, store: Store) -> None:
    """It may be another model, which was fetched before."""
    file = code(here / "fetched", package=False)
    store.put(model(here / "made", "fetched.net:Net"), "llama")
    with pytest.raises(TrustRequired, match=r"fetched is a directory without __init__\.py, .*; import fetched\.net"):
        flavor.load_model(f"{store.url}/llama")
    assert not ran(file)


def test_a_package_that_has_the_model_in_it_is_taken_for_a_part_of_it(here: Path) -> None:
    file = code(here / "llama")
    model(here / "llama" / "v1", "llama.net:Net")
    with pytest.raises(TrustRequired, match="llama came with the model"):
        flavor.load_model("llama/v1")
    assert not ran(file)


def test_what_the_caller_imported_may_be_anywhere(here: Path) -> None:
    code(here / "llama", package=False)
    model(here / "llama", "llama.net:Net")
    __import__("llama.net")
    assert isinstance(flavor.load_model("llama"), torch.nn.Linear)


def test_a_package_beside_the_model_is_imported(here: Path) -> None:
    code(here / "my_models")
    assert isinstance(flavor.load_model(str(model(here / "llama", "my_models.net:Net"))), torch.nn.Linear)


def test_a_model_that_calls_itself_transformers_is_not_imported(
    here: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "transformers", raising=False)
    recipe = model(here / "made", NET) / "recipe.json"
    rebuild = {"type": "transformers", "architecture": "Net"}
    recipe.write_text(json.dumps(json.loads(recipe.read_text()) | {"rebuild": rebuild}))
    (here / "made" / "__init__.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    store.put(here / "made", "transformers")
    with pytest.raises(TrustRequired, match="transformers came with the model"):
        flavor.load_model(f"{store.url}/transformers", dst_path="transformers")
    assert not (here / "ran").exists()


def test_programs_are_not_started(here: Path) -> None:
    """That of unittest imports whatever package it finds here."""
    (here / "llama").mkdir()
    (here / "llama" / "__init__.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    with pytest.raises(TrustRequired, match=r"unittest\.__main__ is a program"):
        flavor.load_model(str(model(here / "model", "unittest.__main__:main")))
    assert not (here / "ran").exists()


def test_pyfunc_takes_classes_from_code_that_was_logged(here: Path, experiment: str) -> None:
    """MLflow makes it importable by itself."""
    code(here / "elsewhere" / "my_code", package=False)
    sys.path.insert(0, "elsewhere")
    module = torch.nn.Linear(2, 2)
    uri = flavor.log_model(module, name="net", factory="my_code.net:Net", code_paths=["elsewhere/my_code"]).model_uri
    sys.path.remove("elsewhere")
    for name in ("my_code", "my_code.net"):
        del sys.modules[name]
    with pytest.raises(NotRebuildable, match="cannot be imported"):
        flavor.load_model(uri)
    before = list(sys.path)
    assert same(mlflow.pyfunc.load_model(uri).get_raw_model(), module)
    sys.path[:] = before


# What cannot be called.


@pytest.mark.parametrize(
    ("function", "arguments", "why"),
    [
        ("", {}, "cannot be imported"),
        ("torch.nn", {}, "cannot be imported"),
        (".x:y", {}, "cannot be imported"),
        ("torch..nn:Linear", {}, "cannot be imported"),
        ("torch.nn:Linear.", {}, "cannot be imported"),
        ("torch.nn.modules.linear.x:y", {}, "cannot be imported"),
        ("torch.nn:Linear", {"zzz": 1}, "cannot be called with .*zzz"),
        ("torch.nn:Linear", {"in_features": -1, "out_features": 1}, "cannot be called with .*negative"),
        ("torch.nn:Linear", {"in_features": 1 << 62, "out_features": 1 << 62}, "cannot be called with .*overflow"),
    ],
)
@pytest.mark.parametrize("trust", [False, True])
def test_a_factory_that_makes_nothing_is_told(
    function: str, arguments: dict[str, int], why: str, trust: bool, tmp_path: Path
) -> None:
    with pytest.raises(NotRebuildable, match=why):
        flavor.load_model(str(model(tmp_path, function, **arguments)), trust=trust)


@pytest.mark.parametrize("file", ["../model.safetensors", "/etc/hostname", "..", ""])
def test_a_recipe_that_leads_out_of_the_model_is_refused(file: str, tmp_path: Path) -> None:
    recipe = model(tmp_path / "model", NET) / "recipe.json"
    said = json.loads(recipe.read_text())
    stored = {"name": file, "size": 1, "digest": "00"}
    for wrong in (said | {"rebuild": {"type": "pickle", "file": file}}, said | {"files": [stored]}):
        recipe.write_text(json.dumps(wrong))
        with pytest.raises(CheckpointUnusable, match=r"recipe\.json cannot be understood: a file is not in the model"):
            flavor.load_model(str(tmp_path / "model"), trust=True)


def test_a_pickled_module_that_is_none_is_told(tmp_path: Path) -> None:
    recipe = model(tmp_path, NET) / "recipe.json"
    recipe.write_text(json.dumps(json.loads(recipe.read_text()) | {"rebuild": {"type": "pickle"}}))
    for data in (b"vnothing", b"", b"cno_such_module\nNet\n."):
        (tmp_path / "skeleton.pkl").write_bytes(data)
        with pytest.raises(CheckpointUnusable, match=r"skeleton\.pkl cannot be opened"):
            flavor.load_model(str(tmp_path), trust=True)
