"""Tests of shardflow.delta."""
