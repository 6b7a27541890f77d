"""What `/metrics` tells: requests, passes of the network, what is remembered."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

__all__ = ["Metrics"]

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one application, in a registry of its own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "zeroshot_requests",
            "Answered",
            ["method", "route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "zeroshot_request_seconds",
            "From the head to the answer",
            ["route"],
            registry=registry,
        )
        self.active = Gauge(
            "zeroshot_requests_active", "Read or answered now", registry=registry
        )
        self.held = Gauge(
            "zeroshot_request_bytes", "Of their bodies", registry=registry
        )
        self.waiting = Gauge(
            "zeroshot_images_waiting", "For the network", registry=registry
        )
        self.images = Counter(
            "zeroshot_images",
            "Images, by where features came from",
            ["from"],
            registry=registry,
        )
        self.batches = Histogram(
            "zeroshot_batch_requests",
            "Requests that shared a pass",
            buckets=SIZES,
            registry=registry,
        )
        self.label_lists = Counter(
            "zeroshot_label_lists",
            "Lists of labels asked for",
            ["remembered"],
            registry=registry,
        )
        self.label_bytes = Gauge(
            "zeroshot_label_memory_bytes",
            "Of remembered lists of labels",
            registry=registry,
        )
        self.loads = Counter(
            "zeroshot_model_loads",
            "Of a replaced model",
            ["outcome"],
            registry=registry,
        )

    def text(self) -> bytes:
        """Return all of it in the text form of Prometheus."""
        return generate_latest(self._registry)
