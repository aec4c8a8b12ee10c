"""What a project remembers of the stores it has used, and which places it takes for the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardflow.dvc.remembered import Remembered
from shardflow.store.store import Store
from shardflow.transport import StoreURL

DEV = {"connection_string": "AccountName=dev;AccountKey=Zm9v"}


@pytest.mark.parametrize(
    ("others", "known"),
    [
        pytest.param({"connection_string": "AccountName=prod;AccountKey=Zm9v"}, False, id="another account"),
        pytest.param({"connection_string": "AccountName=dev;AccountKey=YmFy"}, True, id="another key"),
        pytest.param({"account_name": "dev", "account_key": "YmFy"}, True, id="named in another way"),
        pytest.param({"account_name": "dev", "endpoint": "http://127.0.0.1:1"}, False, id="another endpoint"),
        pytest.param({}, False, id="no account"),
    ],
)
def test_the_same_url_at_another_account_is_another_place(tmp_path: Path, others: dict[str, str], known: bool) -> None:
    store = Store.init(str(tmp_path / "store"))
    Remembered(tmp_path / "notes", DEV).note(store)
    assert (Remembered(tmp_path / "notes", others).used_at(store.url) is not None) == known


def test_a_store_is_remembered_for_what_is_below_it_and_not_for_what_is_beside_it(tmp_path: Path) -> None:
    store = Store.init(str(tmp_path / "store"))
    remembered = Remembered(tmp_path / "notes", {})
    remembered.note(store)
    assert remembered.used_at(store.url.joined("files/md5")) == store.url
    assert remembered.used_at(StoreURL.parse(f"shardflow://file{tmp_path}/stores")) is None
