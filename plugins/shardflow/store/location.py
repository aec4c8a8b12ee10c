"""Finds the store that a URL lies in, and makes new ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shardflow.store.config import CONFIG_KEY, Settings, StoreConfig, decode_config, encode_config, new_config
from shardflow.store.errors import StoreExists, StoreMissing
from shardflow.store.manifest_at import decoded_at
from shardflow.store.parallel import in_parallel
from shardflow.transport import AlreadyThere, ObjectMissing, StoreURL, Transport, connect

Options = Mapping[str, str] | None


def found_store(url: StoreURL, options: Options = None) -> tuple[Transport, StoreConfig, str]:
    """The nearest store at or above a URL, as its transport, its configuration and the path of the URL in it."""

    here = connect(url, options)

    def look(place: StoreURL) -> tuple[Transport, StoreConfig | None, str]:
        transport = here.above(place)
        return transport, read_config(transport), url.relative_to(place)

    for transport, config, path in in_parallel(look, _upwards(url)):
        if config is not None:
            return transport, config, path
    raise StoreMissing(f"there is no store at {url} or above it", remedy=f"make one with 'shardflow init {url}'")


def made_store(url: StoreURL, settings: Settings, options: Options = None) -> tuple[Transport, StoreConfig]:
    """A new store at a URL; refused inside another one, whose files would hide it."""
    transport = connect(url, options)
    for place in _upwards(url):
        if read_config(transport.above(place)) is not None:
            raise StoreExists(f"there is a store at {place} already", remedy="use it, or name another place")
    for part in ("packs/", "tree/"):
        directories, files = transport.list_names(part)
        if directories or files:
            raise StoreExists(
                f"{url} holds {part} of a store whose {CONFIG_KEY} is gone",
                remedy=f"restore {CONFIG_KEY} from a backup, or name another place",
            )
    config = new_config(settings)
    try:
        transport.write(CONFIG_KEY, encode_config(config), if_absent=True)
    except AlreadyThere:
        raise StoreExists(f"another program made a store at {url} just now", remedy="use it") from None
    return transport, config


def read_config(transport: Transport) -> StoreConfig | None:
    """A place's configuration, or None where there is no store."""
    try:
        return decoded_at(transport, CONFIG_KEY, str(transport.url), decode_config)
    except ObjectMissing:
        return None


def _upwards(url: StoreURL) -> Iterator[StoreURL]:
    place: StoreURL | None = url
    while place is not None:
        yield place
        place = place.parent
