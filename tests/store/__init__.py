"""Tests of the store: chunks, packs, manifests, and everything that puts, gets and reads."""
