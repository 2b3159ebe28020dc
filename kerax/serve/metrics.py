"""What is counted, for Prometheus."""

from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from kerax.serve.batching import Batch

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_MOST_SHAPES = 64  # counted each: clients could make new ones for ever
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class _Engines(Collector):
    """What engines are doing when somebody looks."""

    def __init__(self, engines: Any):
        self._engines = engines

    def describe(self):
        return []

    def collect(self):
        by_model = "model", "version"
        slots = GaugeMetricFamily("kerax_slots", "Requests that can be answered at once.", labels=by_model)
        in_use = GaugeMetricFamily("kerax_slots_in_use", "Requests that are being answered.", labels=by_model)
        waiting = GaugeMetricFamily("kerax_queue_requests", "Requests that wait for a slot.", labels=by_model)
        for name, version, engine in self._engines():
            for family, value in ((slots, engine.num_slots), (in_use, engine.slots_in_use), (waiting, engine.waiting)):
                family.add_metric((name, version), value)
        by_kind = *by_model, "kind"
        tokens = CounterMetricFamily("kerax_tokens", "Of prompts (prefill), and new ones (decode).", labels=by_kind)
        dispatches = CounterMetricFamily("kerax_dispatches", "Programs that were run.", labels=by_kind)
        for name, version, engine in self._engines():
            for family, counts in ((tokens, engine.num_tokens), (dispatches, engine.num_dispatches)):
                for kind, count in counts.items():
                    family.add_metric((name, version, kind), count)
        return [slots, in_use, waiting, tokens, dispatches]


class Metrics:
    """Counters of one server.

    Args:
        waiting: A function that tells how many rows wait.
        engines: A function that tells name, version and engine of each language model.
    """

    def __init__(self, waiting: Any, engines: Any = list):
        registry = self._registry = CollectorRegistry()
        by_model = ("model", "version")
        self._requests = Counter("kerax_requests", "Requests.", (*by_model, "status"), registry=registry)
        self._latency = Histogram(
            "kerax_request_seconds", "Of a request.", by_model, registry=registry, buckets=_SECONDS
        )
        self._rows = Histogram("kerax_batch_rows", "Rows of a batch.", by_model, registry=registry, buckets=_ROWS)
        self._padding = Counter("kerax_padding_rows", "Rows that filled batches up.", by_model, registry=registry)
        self._compute = Histogram(
            "kerax_compute_seconds", "Of a batch on the device.", by_model, registry=registry, buckets=_SECONDS
        )
        self._wait = Histogram(
            "kerax_queue_seconds", "Of a request in the queue.", by_model, registry=registry, buckets=_SECONDS
        )
        self._programs = Gauge("kerax_programs", "Programs compiled.", by_model, registry=registry)
        self._late = Counter(
            "kerax_late_programs", "Compiled after it was ready.", (*by_model, "shape"), registry=registry
        )
        Gauge("kerax_queue_rows", "Rows that wait.", registry=registry).set_function(waiting)
        self._first_token = Histogram(
            "kerax_first_token_seconds", "Until an answer begins.", by_model, registry=registry, buckets=_SECONDS
        )
        registry.register(_Engines(engines))
        self._late_shapes: set[str] = set()
        # Looking children up by their labels takes longer than counting.
        self._children: dict[tuple, Any] = {}

    def _child(self, metric, *labels):
        key = id(metric), *labels
        if key not in self._children:
            self._children[key] = metric.labels(*labels)
        return self._children[key]

    def request(self, name: str, version: str, status: int, seconds: float):
        """Counts a request."""
        self._child(self._requests, name, version, status).inc()
        self._child(self._latency, name, version).observe(seconds)

    def batch(self, batch: Batch, name: str, version: str, num_programs: int, num_before: int):
        """Counts a batch, and the programs that are there after it."""
        self._child(self._rows, name, version).observe(batch.rows)
        self._child(self._padding, name, version).inc(batch.padding)
        self._child(self._compute, name, version).observe(batch.seconds)
        self._child(self._programs, name, version).set(num_programs)
        if num_programs > num_before:
            shape = ",".join("x".join(map(str, (batch.rows + batch.padding, *shape))) for shape in batch.shapes)
            if len(self._late_shapes) < _MOST_SHAPES:
                self._late_shapes.add(shape)
            shape = shape if shape in self._late_shapes else "others"
            self._late.labels(name, version, shape).inc(num_programs - num_before)
        for seconds in batch.waited:
            self._child(self._wait, name, version).observe(seconds)

    def first_token(self, name: str, version: str, seconds: float):
        """Counts the beginning of an answer."""
        self._child(self._first_token, name, version).observe(seconds)

    def show(self) -> bytes:
        """All of it as Prometheus reads it."""
        return generate_latest(self._registry)
