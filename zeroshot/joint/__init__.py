"""Joint models: images and texts into one space, as CLIP and SigLIP map them.

In: what a spec string such as ``"clip:/folder"`` names. Out: one object that is a
backbone and text embeddings at once, of one length of vectors. To add a source of such
models, subclass `zeroshot.joint.base.JointModel` beside the others and name it in
``opening.py``.
"""

from typing import TYPE_CHECKING

from zeroshot.lazy import lazy_names

if TYPE_CHECKING:
    from zeroshot.joint.base import SupportsJoint
    from zeroshot.joint.keras_hub import KerasHub
    from zeroshot.joint.onnx_folder import ONNXFolder
    from zeroshot.joint.open_clip import OpenCLIP

__all__ = ["KerasHub", "ONNXFolder", "OpenCLIP", "SupportsJoint"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "KerasHub": "keras_hub",
        "ONNXFolder": "onnx_folder",
        "OpenCLIP": "open_clip",
        "SupportsJoint": "base",
    },
)
