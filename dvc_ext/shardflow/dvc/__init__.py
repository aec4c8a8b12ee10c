"""The DVC side of Shardflow, a distribution of its own: `dvc` sees a remote only through an installed hook."""

__version__ = "0.1.0"
