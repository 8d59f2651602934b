"""What is counted, for Prometheus; over all processes where there are several."""

from __future__ import annotations

import os

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable that names the folder in which several processes add up. The supervisor sets it before they start."""

REQUESTS = Counter("nora_requests", "Requests answered.", ["registry", "method", "status"])
PAGE_CACHE_HITS = Counter("nora_page_cache_hits", "Requests answered from the cache of prepared answers.", ["registry"])
INTEGRITY_ERRORS = Counter("nora_integrity_errors", "Bytes that were not what had been announced.", ["registry", "kind"])
UPSTREAM_REQUESTS = Counter("nora_upstream_requests", "Requests sent to upstreams, redirects included.", ["method"])
RANGE_BYTES = Counter(
    "nora_range_bytes", "Bytes of files that were fetched in parts, to read sidecars out of them.", ["registry"]
)
FETCHED_FILES = Counter("nora_fetched_files", "Files fetched from upstreams and kept.", ["registry"])
FETCHED_BYTES = Counter("nora_fetched_bytes", "Bytes of files fetched from upstreams and kept.", ["registry"])
DERIVED = Counter("nora_derived_sidecars", "Sidecars read out of their files because no upstream serves them.", ["registry"])
WEBHOOK_DELIVERIES = Counter(
    "nora_webhook_deliveries",
    "Tries to send an entry of the audit log to a webhook, by what came of it.",
    ["webhook", "outcome"],
)
WEBHOOK_BEHIND = Gauge(
    "nora_webhook_behind_seconds",
    "Age of the entry of the audit log that a webhook is to get next; 0 if it has all.",
    ["webhook"],
    multiprocess_mode="mostrecent",  # of the process that sends, or did so last
)
EVENTS = Counter("nora_events", "Changes, by what happened.", ["registry", "action"])

CONTENT_TYPE = CONTENT_TYPE_LATEST


def exposition() -> bytes:
    """All metrics in Prometheus' text format."""
    if not os.environ.get(SHARED_FOLDER):
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
