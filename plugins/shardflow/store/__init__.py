"""The store: chunks, packs, manifests and hints, and the operations on them."""
