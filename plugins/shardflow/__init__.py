"""Shardflow: large models in MLflow and DVC, stored once, sent once, verified always."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"
