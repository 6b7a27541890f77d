"""The fastest way to run a Keras network that gives the same features."""

import logging
from collections.abc import Callable

from zeroshot.backbones.checked import Route
from zeroshot.backbones.keras.litert_conversion import (
    ConversionError,
    convert,
    converted_file,
    read_converted,
)
from zeroshot.backbones.keras.network import Network
from zeroshot.errors import PluginContractError
from zeroshot.tensorflow_import import import_tensorflow

__all__ = ["fastest_route", "quantised_route"]

logger = logging.getLogger("zeroshot")


def fastest_route(build: Callable[[], Network], fingerprint: str) -> Route:
    """Return the network converted to LiteRT, or its plain graph.

    On a CPU LiteRT computes the features of Keras, to 1e-4 of the largest one, in half
    the time or less (``benchmarks/inference_routes.py``). A first use converts, checks
    and keeps the network, which takes some seconds; from then on Keras does not even
    build it. The plain graph is used where there is a GPU, where a function of the user
    scales the pixels, and where the conversion fails or gives other features; the
    reason is logged under ``"zeroshot"``.

    All features of a backbone on a machine come from the one route, so they are the
    same bit for bit in every process. Between machines they agree to 1e-4: the route is
    no part of a backbone's fingerprint.

    ``build``: returns the `Network`; called if there is no kept conversion.
    ``fingerprint``: of the backbone: names the conversion in the cache. Returns route:
    threads may call it at once.
    """
    if import_tensorflow(to_run=False).config.list_physical_devices("GPU"):
        logger.info("A plain graph is used, on the GPU.")
        return build()
    path = converted_file(fingerprint)
    network = None
    try:
        converted = read_converted(path)
        if converted is None:
            network = build()
            if network.scales_outside:
                logger.info("A plain graph is used: a function scales the pixels.")
                return network
            converted = convert(network, path)
    except ConversionError as error:
        logger.warning("A plain graph is used, which is slower than LiteRT: %s", error)
        return network or build()
    return converted


def quantised_route(build: Callable[[], Network], fingerprint: str) -> Route:
    """Return the network quantised to int8, from the cache where it is there.

    ``build``: returns the `Network`; called if there is no kept conversion.
    ``fingerprint``: of the quantised backbone: names the conversion in the cache.
    Returns route: threads may call it at once. Raises PluginContractError if it cannot
    be quantised.
    """
    path = converted_file(fingerprint)
    try:
        converted = read_converted(path)
        if converted is None:
            converted = convert(build(), path, quantised=True)
    except ConversionError as error:
        raise PluginContractError(
            f"Expected a network that can be quantised to int8. Got {error} Use the "
            f"exact one: leave 'int8' out."
        ) from error
    return converted
