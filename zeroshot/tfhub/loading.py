"""Modules loaded by tensorflow_hub, and the functions that they have."""

import re
from pathlib import Path
from typing import Any

from zeroshot.errors import ArtifactError, MissingExtraError
from zeroshot.tensorflow_hub_import import import_tensorflow_hub

__all__ = ["load_module", "signature_of", "traces_of"]

NO_OPERATION = re.compile(r"Op type not registered '(\w+)'")


def load_module(folder: Path, shown: str) -> Any:
    """Load a module of TF1 (the hub format), of TF2, or an export of Keras.

    ``shown``: its handle, for messages. Its variables live as long as what is returned.
    Raises ArtifactError if TensorFlow cannot load it, MissingExtraError if it needs
    the operations of tensorflow-text.
    """
    hub = import_tensorflow_hub()
    try:
        try:
            return hub.load(str(folder))
        except Exception as error:
            if not NO_OPERATION.search(str(error)):
                raise
            import tensorflow_text  # noqa: F401 - it registers its operations

            return hub.load(str(folder))
    except ImportError as error:
        named = NO_OPERATION.search(str(error.__context__))
        raise MissingExtraError(
            f"Expected tensorflow-text, for the operation "
            f"'{named[1] if named else 'of a text module'}' of '{shown}'. Got no such "
            f"package. Run: pip install 'zeroshot[tfhub-text]'"
        ) from error
    except Exception as error:  # TensorFlow raises many kinds for a foreign file
        raise ArtifactError(
            f"Expected a SavedModel. Got '{shown}', which TensorFlow cannot load: "
            f"{error}. Fetch it again."
        ) from error


def signature_of(module: Any, name: str) -> tuple[Any, list[Any]]:
    """Return a signature as a function of one tensor, and the specs of its inputs.

    It gives a dict of tensors. Where there are several inputs, all get the tensor.
    """
    chosen = module.signatures[name]
    inputs = chosen.structured_input_signature[1]

    def call(tensor: Any) -> Any:
        return chosen(**dict.fromkeys(inputs, tensor))

    return call, list(inputs.values())


def traces_of(module: Any) -> tuple[Any, list[list[Any]]]:
    """Return a module as a function, and the specs of its input in each trace.

    There are none where it cannot be called, or was never traced.
    """
    call = getattr(module, "__call__", None)  # noqa: B004 - it is called itself
    traces = getattr(call, "concrete_functions", None) or []
    return call, [list(each.structured_input_signature[0][:1]) for each in traces]
