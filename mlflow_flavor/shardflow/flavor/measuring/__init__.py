"""Measures checkpoint formats side by side on the machine it runs on: what `shardflow bench checkpoint` does."""
