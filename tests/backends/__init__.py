"""The public conformance suites, run against every backend."""
