"""A model as small as can be."""

FILES = {"MLmodel": b"flavors: {}", "weights/a.bin": bytes(100_000)}
