"""The joint model that a spec string names, by where it comes from."""

from zeroshot.errors import PluginContractError
from zeroshot.joint.base import JointModel

__all__ = ["Clip"]


class Clip:
    """What is registered as ``clip``: makes joint models of every source.

    - ``"clip:/folder"``: two ONNX files and a tokenizer.json, `ONNXFolder`;
    - ``"clip:open_clip:ViT-B-32?weights=/file"``, ``"clip:open_clip:/folder"``: by the
      library of that name, `OpenCLIP`;
    - ``"clip:keras_hub:/folder"``, ``"clip:keras_hub:clip_vit_base_patch32"``: by
      KerasHub, `KerasHub`.
    """

    @classmethod
    def from_spec(cls, name: str, argument: str | None) -> JointModel:
        """Make the model that follows the colon; nothing of it is loaded.

        Raises PluginContractError if there is none, or it is malformed.
        """
        if not argument:
            raise PluginContractError(
                f"Expected '{name}:/folder' of a joint model. Got '{name}' without "
                f"one. See docs/joint-models.md."
            )
        source, colon, rest = argument.partition(":")
        if colon and source == "open_clip":
            from zeroshot.joint.open_clip import OpenCLIP

            return OpenCLIP.from_argument(name, rest)
        if colon and source == "keras_hub":
            from zeroshot.joint.keras_hub import KerasHub

            return KerasHub.from_argument(name, rest)
        from zeroshot.joint.onnx_folder import ONNXFolder

        return ONNXFolder.from_argument(name, argument)
