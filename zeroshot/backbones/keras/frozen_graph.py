"""A Keras network as a frozen graph of TensorFlow: its weights are constants.

TensorFlow then folds batch norms into the convolutions, and oneDNN, where TensorFlow
uses it, gets a convolution with its activation in one call. It needs TensorFlow, but
not Keras, which takes longer to build the network than this to be read.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.keras.network import Network
from zeroshot.tensorflow_import import import_tensorflow

__all__ = ["FrozenGraph", "frozen_graph"]

INPUT, OUTPUT = "pixels:0", "Identity:0"  # as TensorFlow calls those of `Network`


class FrozenGraph:
    """A frozen graph as a function from images to features; threads may share it.

    Images go through one at a time, each with all cores, unless ``in_batches``: then an
    image's features may be other bits beside other images (they are, with ConvNeXt-Tiny
    and MobileNetV2). With ResNet50 batches took 0.93 of the processor's time.

    ``content`` is what `frozen_graph` returned. Raises PluginError in a process that
    was forked after TensorFlow ran.
    """

    def __init__(self, content: bytes, *, in_batches: bool = False) -> None:
        tf = import_tensorflow()
        graph = tf.compat.v1.GraphDef.FromString(content)
        whole = tf.compat.v1.wrap_function(
            lambda: tf.graph_util.import_graph_def(graph, name=""), []
        )
        self._compiled = whole.prune(INPUT, OUTPUT)
        self._in_batches = in_batches

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of a batch of at least one image."""
        tf = import_tensorflow()  # which refuses in a forked process
        n = len(images) if self._in_batches else 1
        parts = (tf.constant(images[i : i + n]) for i in range(0, len(images), n))
        return np.concatenate([self._compiled(part).numpy() for part in parts])


def frozen_graph(network: Network) -> bytes:
    """Return a network as the content of a file; raises what TensorFlow raises.

    Whatever is larger than 2 GB is among that: protocol buffers end there.
    """
    import_tensorflow()
    from tensorflow.python.framework import convert_to_constants

    frozen: Any = convert_to_constants.convert_variables_to_constants_v2(
        network.compiled
    )
    content: bytes = frozen.graph.as_graph_def().SerializeToString()
    return content
