"""What Celery works out anew for each task though it comes out the same, remembered.

Each of these was a tenth and more of what a short task takes. The answers are Celery's own: it is asked once. What an
application has replaced is left alone.
"""

from contextlib import contextmanager
from datetime import datetime

from celery import Celery
from celery.app import trace
from celery.app.task import Context

from . import closing


def take(app):
    """Take them in this process."""
    remember_extended(type(app.conf))
    remember_custom_headers()
    show_plainly()
    closing.take(app)
    if type(app).now is Celery.now:
        app.now = lambda: datetime.now(app.timezone)  # the same without a look for the offset of UTC in UTC


@contextmanager
def tracers_on_demand():
    """Within this, Celery's pool initializer gets tracers that are built when their task runs for the first time.

    It builds one for each task of the application, in each process: some kilobytes and 50 us each, and most are never used.
    """
    build = trace.build_tracer

    def build_on_demand(name, task, *args, **options):
        if options.keys() - {"app"}:  # another caller's, such as an eager one
            return build(name, task, *args, **options)

        built = []

        def build_and_trace(*call, **named):
            if not built:
                built.append(build(name, task, *args, **options))
            if task.__trace__ is build_and_trace:  # else the application has put its own around it
                task.__trace__ = built[0]
            return built[0](*call, **named)

        return build_and_trace

    trace.build_tracer = build_on_demand
    try:
        yield
    finally:
        if trace.build_tracer is build_on_demand:  # and not the application's own around it
            trace.build_tracer = build


def remember_extended(settings):
    """Look `result_extended` up once: Celery does so for each result."""
    find, known = settings.find_value_for_key, []

    def find_value_for_key(self, name, namespace="celery"):
        if (name, namespace) != ("extended", "result"):
            return find(self, name, namespace)
        if not known:
            known.append(find(self, name, namespace))
        return known[0]

    settings.find_value_for_key = find_value_for_key


def remember_custom_headers():
    """Which fields of a request are headers of the application's own depends on their names alone.

    Celery makes a set of all names it knows and removes them one by one from a copy of the request.
    """
    find, known = getattr(Context, "_get_custom_headers", None), {}
    if find is None:  # a Celery to come
        return

    def _get_custom_headers(self, *args, **kwargs):
        fields = dict(*args, **kwargs)
        names = tuple(fields)
        own = known.get(names)
        if own is None:
            own = tuple(find(self, fields) or ())
            if len(known) < 1000:  # names that are made up anew for each message are not kept
                known[names] = own
        return {name: fields[name] for name in own} or None

    Context._get_custom_headers = _get_custom_headers


def show_plainly():
    """What most tasks return is shown with less than Celery's streaming, truncating `saferepr`, which makes the same of it."""
    show = getattr(trace, "saferepr", None)

    def saferepr(value, maxlen=None, *args, **kwargs):
        kind = type(value)
        if kind is str and (maxlen is None or len(value) < maxlen):  # a long one is cut, not copied
            text = "'" + value.replace("'", "\\'") + "'"
        elif value is None or kind is int or kind is bool or kind is float:
            text = repr(value)
        else:
            return show(value, maxlen, *args, **kwargs)
        return text if maxlen is None or len(text) < maxlen else show(value, maxlen, *args, **kwargs)

    samples = (None, True, 7, 0.5, "", "it's", "\u00e4\n")
    if show is not None and all(show(value, 1024) == saferepr(value, 1024) for value in samples):
        trace.saferepr = saferepr
