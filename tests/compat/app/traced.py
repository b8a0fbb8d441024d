"""An application with OpenTelemetry's instrumentation; its spans go into Redis."""
import json

from celery import signals
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import compat_tasks

exporter = InMemorySpanExporter()


def install(app):
    signals.worker_process_init.connect(begin, weak=False)
    signals.worker_process_shutdown.connect(end, weak=False)


def begin(**kwargs):
    trace.set_tracer_provider(TracerProvider())
    trace.get_tracer_provider().add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=600_000))
    CeleryInstrumentor().instrument()


def end(**kwargs):
    """Nothing was sent before: the processor collects for ten minutes."""
    trace.get_tracer_provider().force_flush()
    for span in exporter.get_finished_spans():
        compat_tasks.note("spans", json.dumps({
            "name": span.name, "trace": span.context.trace_id, "id": span.context.span_id,
            "parent": span.parent and span.parent.span_id, "status": span.status.status_code.name,
            "attributes": dict(span.attributes), "events": [event.name for event in span.events],
        }))
