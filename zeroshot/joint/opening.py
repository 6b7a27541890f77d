"""The joint model that a spec string names, by where it comes from."""

from zeroshot.errors import PluginContractError
from zeroshot.joint.base import JointModel

__all__ = ["Clip"]


class Clip:
    """What is registered as ``clip``: makes joint models of every source.

    - ``"clip:/folder"``: two ONNX files and a tokenizer.json, `ONNXFolder`.
    """

    # As of every joint model: see `as_joint`.
    embed = encode = logit_scale = logit_bias = None

    @classmethod
    def from_spec(cls, name: str, argument: str | None) -> JointModel:
        """Make the model that follows the colon; nothing of it is loaded.

        Raises PluginContractError if there is none, or it is malformed.
        """
        from zeroshot.joint.onnx_folder import ONNXFolder

        if not argument:
            raise PluginContractError(
                f"Expected '{name}:/folder' of a joint model. Got '{name}' without "
                f"one. See docs/joint-models.md."
            )
        return ONNXFolder.from_argument(name, argument)
