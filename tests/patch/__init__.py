"""Tests of shardflow.patch."""
