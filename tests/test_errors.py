"""What every error keeps to, whatever it is about."""

from __future__ import annotations

import pytest

from shardflow.errors import without_passwords


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("http://me:SECRET@host:5000/api failed", "http://host:5000/api failed"),
        ("postgresql+psycopg://me:SECRET@host/db", "postgresql+psycopg://host/db"),
        ("postgresql://me:SEC/SECRET@host/db", "postgresql://host/db"),
        ("http://SECRET@host", "http://host"),
        ("http://me:SEC@SECRET@host", "http://host"),
        ("https:/me:SECRET@host/x does not exist", "https:/host/x does not exist"),
        ("'http://me:SECRET@a', 'http://me:SECRET@b'", "'http://a', 'http://b'"),
    ],
)
def test_a_password_in_a_url_is_not_repeated(text: str, told: str) -> None:
    assert without_passwords(text) == told


@pytest.mark.parametrize(
    "text",
    [
        "http://host:5000/me@home",
        "shardflow://file/a:b@c",
        "shardflow://s3/bucket/c?d#e@f",
        "models:/name@champion",
        "models:/name@champion and http://host/a@b",
        "/data/me@home: no such file",
        "me@host:/data",
    ],
)
def test_what_is_no_password_stays(text: str) -> None:
    assert without_passwords(text) == text
