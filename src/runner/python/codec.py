"""JSON in and out as kombu reads and writes it, without making a decoder and an encoder anew for each task.

Where the application has registered something else under these names, or kombu is not as it is known to be, kombu is asked.
"""

import json
import sys

from celery.backends.base import Backend
from celery.exceptions import SoftTimeLimitExceeded
from kombu.exceptions import EncodeError, reraise
from kombu.serialization import loads as kombu_loads
from kombu.serialization import registry
from kombu.utils import json as kombu_json

TYPE = "application/json"

#: kombu's own functions, as they are registered; None if they don't read and write as is known.
_READS = kombu_json.loads if kombu_json.loads.__defaults__ == (json.loads, True, kombu_json.object_hook) else None
_WRITES = kombu_json.dumps if kombu_json.dumps.__defaults__ == (json.dumps, kombu_json.JSONEncoder, None) else None

_scan = json.JSONDecoder(object_hook=kombu_json.object_hook).scan_once
_encode = kombu_json.JSONEncoder().encode


def loads(body, content_type, content_encoding, accept):
    """`kombu.serialization.loads`."""
    known = _READS is not None and registry._decoders.get(TYPE) is _READS
    if known and content_type == TYPE and accept is not None and TYPE in accept:
        try:
            text = body.decode()
            value, end = _scan(text, 0)
            if end == len(text):
                return value
        except SoftTimeLimitExceeded:
            raise
        except Exception:  # kombu says what is wrong with it
            pass
    return kombu_loads(body, content_type, content_encoding, accept=accept)


def encoder(backend):
    """The method `encode` of a result backend."""
    own, slow = type(backend), backend.encode
    same = own.encode is Backend.encode and own._encode is Backend._encode and not {"encode", "_encode"} & set(vars(backend))
    if not same or backend.serializer != "json" or getattr(backend, "compression", None) or _WRITES is None:
        return slow

    def encode(meta):
        registered = registry._encoders.get("json")
        if registered is None or registered.encoder is not _WRITES:
            return slow(meta)
        try:
            return _encode(meta)
        except Exception as exc:  # as kombu does
            reraise(EncodeError, EncodeError(exc), sys.exc_info()[2])

    return encode
