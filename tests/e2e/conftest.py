"""Fixtures of the end-to-end tests. Each test has its own Redis, its own data directory and its own processes."""
from contextlib import ExitStack, contextmanager

import pytest
from harness import PROJECT, example_app
from harness.daemon import Fairstalk, base_config, clean_environment, merged
from harness.flower import Flower
from harness.ledger import Ledger
from harness.processes import ProcessUnderTest
from harness.redis_server import RedisServer
from harness.waiting import eventually

APP = example_app.load()


@pytest.fixture
def redis():
    """A private Redis server."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def app_env(redis, tmp_path):
    """Environment of the example application. A test may change it before it starts a worker."""
    data = tmp_path / "data"
    data.mkdir()
    return example_app.environment(redis, data)


@pytest.fixture
def celery_app(app_env):
    """The example's Celery app in this process, on this test's Redis."""
    example_app.connect(APP, app_env)
    yield APP
    example_app.disconnect(APP)


@pytest.fixture
def database(celery_app):
    """The example's database, with its tables."""
    example_app.migrate()
    return celery_app


@pytest.fixture
def stock_worker(app_env, tmp_path):
    """`with stock_worker("-c", "2") as worker`: a stock `celery worker`, ready inside the block and gone after it."""

    @contextmanager
    def start(*options, app="imgbackend"):
        command = [*example_app.celery_command(app), "worker", "--loglevel", "INFO", *(options or ("-c", "2"))]
        worker = ProcessUnderTest(command, tmp_path / "celery.log", clean_environment(**app_env), PROJECT)
        try:
            worker.wait_log(r"celery@\S+ ready\.$", timeout=60)
            yield worker
            if worker.popen.poll() is None:
                worker.stop()
        finally:
            worker.clear_away()

    return start


@pytest.fixture
def fairstalk(redis, app_env, tmp_path):
    """Factory of ready daemons: `fairstalk(workers={"processes": 1})`.

    Keywords are sections laid over `base_config`; `wait=False` returns before READY=1. Whatever a daemon of the
    test leaves behind fails the test.
    """
    started = []

    def start(wait=True, env=None, arguments=(), before=(), **sections):
        config = merged(base_config(redis.url, app_env), sections)
        daemon = Fairstalk(tmp_path / f"fairstalk{len(started) or ''}", config, env, arguments=arguments, before=before)
        started.append(daemon)
        return daemon.wait_ready() if wait else daemon

    yield start
    problems = []
    for daemon in started:
        try:
            daemon.close()
        except AssertionError as problem:
            problems.append(str(problem))
    assert not problems, "\n".join(problems)


@pytest.fixture(params=["celery", "fairstalk"])
def start_worker(request, database):
    """`start_worker(slots=4, app="imgbackend")`: the same test under a stock worker and under fairstalk."""
    if request.param == "fairstalk":
        start = request.getfixturevalue("fairstalk")
        def start_fairstalk(slots=4, app="imgbackend"):
            count = 1 if slots == 1 else 2
            return start(workers={"processes": count, "concurrency": slots // count}, python={"app": app})

        yield start_fairstalk
        return
    start = request.getfixturevalue("stock_worker")
    with ExitStack() as stack:

        def start_celery(slots=4, app="imgbackend"):
            worker = stack.enter_context(start("-c", str(slots), app=app))
            # Its warm shutdown takes seconds and nobody looks at it here.
            stack.callback(worker.clear_away)
            return worker

        yield start_celery


@pytest.fixture
def worker(start_worker):
    """A ready worker with four slots: stock Celery, then fairstalk."""
    return start_worker()


@pytest.fixture
def client(redis):
    """A redis-py client of this test's Redis."""
    with redis.client() as client:
        yield client


@pytest.fixture
def flower(app_env, tmp_path):
    """A running Flower."""
    flower = Flower(app_env, tmp_path)
    try:
        eventually(lambda: flower.ask("/healthcheck"), 60, flower.log)
        yield flower
    finally:
        flower.clear_away()


@pytest.fixture
def ledger(tmp_path):
    """A ledger for the example's `record` task."""
    return Ledger(tmp_path / "ledger")
