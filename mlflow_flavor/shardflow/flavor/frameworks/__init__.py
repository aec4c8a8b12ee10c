"""Models of other frameworks: exported to them and imported from them, and checked by running both.

from shardflow.flavor.frameworks import export_onnx, import_onnx
export_onnx(module, "model-onnx", (tokens,))
import_onnx("model-onnx", module, (tokens,))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shardflow.flavor.frameworks.keras_models import export_keras, import_keras, keras_state
    from shardflow.flavor.frameworks.onnx_models import export_onnx, import_onnx, onnx_state
    from shardflow.flavor.frameworks.tensorflow_models import (
        export_saved_model,
        import_saved_model,
        saved_model_state,
    )

_HOMES = {
    **dict.fromkeys(("export_keras", "import_keras", "keras_state"), "keras_models"),
    **dict.fromkeys(("export_onnx", "import_onnx", "onnx_state"), "onnx_models"),
    **dict.fromkeys(("export_saved_model", "import_saved_model", "saved_model_state"), "tensorflow_models"),
}

__all__ = [
    "export_keras",
    "export_onnx",
    "export_saved_model",
    "import_keras",
    "import_onnx",
    "import_saved_model",
    "keras_state",
    "onnx_state",
    "saved_model_state",
]


def __getattr__(name: str) -> Any:
    # Who has no use for one framework need not have its packages installed.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        from shardflow.flavor.formats.errors import FormatUnavailable  # noqa: PLC0415

        raise FormatUnavailable(
            f"{name} needs {error.name}, which is not installed", remedy=f"pip install {error.name}"
        ) from None
