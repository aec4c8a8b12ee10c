"""Tests of shardflow.codec.fitting."""
