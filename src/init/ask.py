# The program given to `python -c` with the name of the application and its directory as arguments. It loads the
# application as `celery -A` does, runs no task and connects to nothing, and writes one line of JSON to what was
# its standard output. The broker's password is in that line: it goes through a pipe and is never printed.
import inspect
import json
import os
import sys
from urllib.parse import quote


def main(name, directory):
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the application prints while it is imported
    sys.argv = ["fairstalk"]
    os.chdir(directory)
    sys.path.insert(0, directory)
    import celery
    from celery.app.utils import find_app

    app = find_app(name)
    app.loader.init_worker()
    app.finalize()
    json.dump(describe(app, celery.__version__), answer)
    answer.close()
    os._exit(0)  # threads the application has started don't keep us


def describe(app, version):
    conf = app.conf
    names = [name for name in app.tasks if not name.startswith("celery.")]
    queues, router = queues_of(app, names)
    sentinel_options = (conf.broker_transport_options or {}).get("sentinel_kwargs") or {}
    with app.connection_for_write() as connection:
        url = broker_url(conf, connection)
        results = results_of(app, connection)
    return {
        "celery": version,
        "python": ".".join(map(str, sys.version_info[:3])),
        "broker_url": url,
        "master_name": (conf.broker_transport_options or {}).get("master_name") or "",
        "sentinel_password": bool(sentinel_options.get("password")),
        "sentinel_tls": connection.transport_cls == "sentinel" and bool(connection.ssl or sentinel_options.get("ssl")),
        "key_prefix": (conf.broker_transport_options or {}).get("global_keyprefix") or "",
        "default_queue": str(conf.task_default_queue),
        "consumed": list(app.amqp.queues),
        "queues": queues,
        "router": router,
        "results": results,
        "tasks": {name: parameters(app.tasks[name]) for name in names},
        "concurrency": number(conf.worker_concurrency),
        "max_tasks": number(conf.worker_max_tasks_per_child),
        "accept": sorted(map(str, conf.accept_content or [])),
    }


def broker_url(conf, connection):
    """The first broker, with everything kombu takes for granted written out, and without options of the client."""
    written = conf.broker_write_url or conf.broker_url
    written = written if isinstance(written, str) else (list(written or []) or [""])[0]
    if written.startswith("sentinel:"):
        return written
    written = written.split(";")[0]
    if not written.startswith(("redis:", "rediss:")):
        return written or connection.as_uri(include_password=True)
    user, password = quote(connection.userid or "", safe=""), quote(connection.password or "", safe="")
    login = "{}:{}@".format(user, password) if password else user and user + "@"
    host = connection.hostname or "127.0.0.1"
    host = "[{}]".format(host) if ":" in host else host
    database = str(connection.virtual_host or "").strip("/") or "0"
    place = "{}{}:{}/{}".format(login, host, connection.port or 6379, database)
    # kombu's Redis transport uses TLS where there is a dictionary, whatever the scheme is; `rediss:` makes one.
    if isinstance(connection.ssl, dict) and (connection.ssl or written.startswith("rediss:")):
        return "rediss://" + place + tls_parameters(connection.ssl)
    return written.split(":")[0] + "://" + place


def tls_parameters(settings):
    """As fairstalk reads them. What it doesn't know is named without its value, which may be a secret."""
    parameters = []
    for name, value in settings.items():
        if name == "ssl_cert_reqs":
            value = {0: "none", "none": "none", "CERT_NONE": "none", None: "none"}.get(value)
        elif name == "ssl_check_hostname":
            value = "false" if value in (False, "false") else None
        elif name not in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
            value = "" if value is not None else None
        if value is not None:
            parameters.append("{}={}".format(name, quote(str(value), safe="/")))
    return "?" + "&".join(parameters) if parameters else ""


def queues_of(app, names):
    """Names of all queues the settings and the tasks name, and whether code decides about further ones."""
    queues = list(app.amqp.queues)
    router = False
    routes = app.conf.task_routes or ()
    for route in [routes] if isinstance(routes, (dict, str)) or callable(routes) else routes:
        if isinstance(route, dict):
            queues += [queue_of(options) for options in route.values()]
        elif isinstance(route, (tuple, list)) and len(route) == 2:
            queues.append(queue_of(route[1]))
        else:
            router = True
    queues += [queue_of({"queue": getattr(app.tasks[name], "queue", None)}) for name in names]
    return list(dict.fromkeys(queue for queue in queues if queue)), router


def queue_of(options):
    queue = options.get("queue") if isinstance(options, dict) else options
    queue = getattr(queue, "name", queue)
    return queue if isinstance(queue, str) else None


def results_of(app, connection):
    """Class of the result backend, and the database if it is Celery's for Redis on the broker's server."""
    try:
        backend = app.backend
    except Exception as error:  # a package of the backend is missing, for instance
        return {"backend": None, "error": type(error).__name__}
    found = {"backend": type(backend).__name__, "database": None, "key_prefix": ""}
    params = getattr(backend, "connparams", None) or {}
    here = (connection.hostname or "127.0.0.1", connection.port or 6379)
    there = (params.get("host"), params.get("port"))
    if connection.transport_cls in ("redis", "rediss") and loopback(*here) == loopback(*there):
        found["database"] = int(params.get("db") or 0)
    options = app.conf.result_backend_transport_options or {}
    found["key_prefix"] = options.get("global_keyprefix") or ""
    return found


def number(setting):
    return setting if isinstance(setting, int) and setting > 0 else None


def loopback(host, port):
    return ("127.0.0.1" if host in ("localhost", "::1") else host, int(port or 0))


def parameters(task):
    try:
        return list(inspect.signature(task.run).parameters)
    except (TypeError, ValueError):
        return []


main(*sys.argv[1:])
