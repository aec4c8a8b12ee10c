from __future__ import annotations

from shardflow.cli.text import columns, printable


def test_a_name_cannot_fake_a_line_or_move_the_cursor() -> None:
    assert printable("a\nshardflow: all is well\x1b[2J\r") == "a\\nshardflow: all is well\\x1b[2J\\r"


def test_a_name_that_is_no_text_is_shown_with_its_bytes() -> None:
    assert printable(b"caf\xe9.bin".decode("utf-8", "surrogateescape")) == "caf\\xe9.bin"


def test_ordinary_names_stay_as_they_are() -> None:
    assert printable("modèle 7 (état).bin") == "modèle 7 (état).bin"


def test_columns_line_up_and_end_without_blanks() -> None:
    assert columns([("1", "a"), ("100", ""), ("20", "ccc")], "><") == ["  1  a", "100", " 20  ccc"]


def test_no_rows_make_no_lines() -> None:
    assert columns([], "><") == []
