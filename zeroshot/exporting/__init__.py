"""A classifier as one file, for programs that have no zeroshot.

In: a fitted classifier and labels. Out: network and labels in one ONNX, LiteRT or
SavedModel file, checked against the classifier itself, and a description beside it. To
add a kind of file, write a module as ``onnx_form.py``; what is computed between the
network and the scores is in ``head.py``, in operations that any kind can carry out.
"""

from typing import TYPE_CHECKING

from zeroshot.lazy import lazy_names

if TYPE_CHECKING:
    from zeroshot.exporting.exporting import (
        Exported,
        export_classifier,
        export_labels,
    )

__all__ = ["Exported", "export_classifier", "export_labels"]

__getattr__, __dir__ = lazy_names(__name__, {name: "exporting" for name in __all__})
