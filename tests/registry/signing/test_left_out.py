"""Files that model-signing leaves out of its signatures, or would write over: none of them is what a model loads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry.signing.signatures import fetched, put, sign, stock, trusted
from shardflow.registry.evidence_digests import (
    files_of,
)
from shardflow.registry.signing import (
    SignatureRefused,
    checked,
    signed,
    stored_signature,
    with_key,
)
from shardflow.store.store import Store

if TYPE_CHECKING:
    pass


def test_the_stock_command_checks_what_a_model_loads_whatever_it_is_called(
    location: str, key: Path, public: Path, tmp_path: Path
) -> None:
    put(location, "MLmodel", b"flavors: {sklearn: {pickled_model: lineage.html}}")
    put(location, "lineage.html", b"weights")
    put(location, "registered_model_meta/more", b"weights")
    sign(location, key)
    copy = fetched(location, tmp_path / "copy", meta=False)
    assert stock(copy, public) == (0, "Verification succeeded\n")
    for name in ("lineage.html", "registered_model_meta/more"):
        before = (copy / name).read_bytes()
        (copy / name).write_bytes(b"other")
        code, said = stock(copy, public)
        assert code == 1
        assert name in said
        (copy / name).write_bytes(before)


def test_a_model_whose_own_file_would_have_to_give_way_to_the_signature_is_not_signed(location: str, key: Path) -> None:
    put(location, "MLmodel", b"flavors: {sklearn: {pickled_model: model.sig}}")
    put(location, "model.sig", b"weights")
    with pytest.raises(SignatureRefused, match=r"m has a file model\.sig of its own") as refused:
        signed("m", files_of(location), with_key(key))
    assert "another name" in refused.value.remedy


@pytest.mark.parametrize("name", [".github/model.pkl", ".git/config", ".gitignore/x"])
def test_a_model_with_files_that_model_signing_leaves_out_is_not_signed(location: str, key: Path, name: str) -> None:
    signature = sign(location, key)
    put(location, name, b"weights")
    with pytest.raises(SignatureRefused, match=name) as refused:
        signed("m", files_of(location), with_key(key))
    assert refused.value.remedy == "log the model without what is below .git and .github"
    assert checked(signature, files_of(location), [trusted(key)]).problem == (
        f"signatures leave out {name}: log the model without what is below .git and .github"
    )


def test_the_notes_of_git_among_the_files_of_a_model_are_covered_by_an_entry_of_the_signature(
    location: str, key: Path, public: Path, tmp_path: Path
) -> None:
    """Models from Hugging Face have them."""
    put(location, ".gitattributes", b"*.safetensors filter=lfs\n")
    signature = sign(location, key)
    assert checked(signature, files_of(location), [trusted(key)]).by == ("ci",)
    assert stock(fetched(location, tmp_path / "copy"), public) == (0, "Verification succeeded\n")
    changed = "the files are not those that were signed: "
    for name in (".gitattributes", ".gitignore"):
        put(location, name, b"weights")
        assert checked(signature, files_of(location), [trusted(key)]).problem == f"{changed}{name}"
        signature = sign(location, key)
    store, path = Store.find(location)
    store.rm(f"{path}/.gitignore")
    assert checked(signature, files_of(location), [trusted(key)]).problem == f"{changed}.gitignore"


def test_a_signature_by_another_program_says_nothing_of_the_notes_of_git(model: Path, key: Path) -> None:
    from model_signing import signing

    (model / ".gitattributes").write_text("*.safetensors filter=lfs")
    signing.Config().use_elliptic_key_signer(private_key=key).sign(model, model / "model.sig")
    found = checked(stored_signature(str(model)), files_of(str(model)), [trusted(key)])
    assert found.problem == "another program made the signature, which leaves out .gitattributes"
