"""One worker for each module of tests, and for each kind of worker: `celery worker`, then fairstalk.

A module says what it needs in constants: SETTINGS (of Celery), PLUGIN (a module in `app`), KINDS, SLOTS, SECTIONS (of
fairstalk's configuration), ENVIRONMENT. What an application may rely on is asserted under both.
"""
import pytest
from harness.redis_server import RedisServer

from stage import Stage


def pytest_generate_tests(metafunc):
    if "worker" in metafunc.fixturenames:
        kinds = getattr(metafunc.module, "KINDS", ["celery", "fairstalk"])
        metafunc.parametrize("worker", kinds, indirect=True, scope="module")


@pytest.fixture(scope="module")
def worker(request, tmp_path_factory):
    """The module's worker, ready, with the application in this process."""
    with RedisServer() as redis:
        stage = Stage(request.param, redis, tmp_path_factory.mktemp(request.param), request.module)
        prepare = getattr(request.module, "prepare", None)
        try:
            if prepare is not None:
                prepare(stage)
            yield stage.connect().start()
        finally:
            stage.close()
