"""The page of a lineage: whoever gives something a name decides what the page shows, and no more than that."""

from __future__ import annotations

from pathlib import Path

from registry.logged import own_place
from shardflow.registry.evidence_digests import digest_of, files_of
from shardflow.registry.lineage import lineage_of
from shardflow.registry.lineage_page import log_page
from shardflow.registry.references import find


def test_a_page_is_no_part_of_the_model_whatever_names_it_shows(tmp_path: Path) -> None:
    with own_place(tmp_path) as here:
        run = here.client.create_run(here.experiment, run_name="a\x1b[31m\x01b")
        here.register("llama", here.log({"MLmodel": b"flavors: {}"}, run_id=run.info.run_id))
        found = find("llama/1", here.client)
        before = digest_of(files_of(found.location))
        log_page(lineage_of(found, here.client), found.location)
        assert digest_of(files_of(found.location)) == before
