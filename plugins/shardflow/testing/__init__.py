"""Conformance suites: what Shardflow asks of a backend, as tests that any backend's own test module can subclass."""
