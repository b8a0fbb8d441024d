"""A Redis whose primary the Sentinels know: under load the primary dies, or hands over, and everything goes on."""
import json
import sys

import pytest
from celery import Celery
from harness.daemon import clean_environment
from harness.processes import ProcessUnderTest
from harness.sentinel import NAME, Sentinels
from harness.waiting import eventually

PATIENCE = 60
CONFIG = 78
UNAVAILABLE = 69

PROGRAM = """
import json, os, time
from celery import Celery
options = {{"master_name": {name!r}}}
app = Celery("jobs", broker={url!r}, backend={url!r})
app.conf.update(broker_transport_options=options, result_backend_transport_options=options)

@app.task(name="note")
def note(n, path, seconds=0.0):
    time.sleep(seconds)
    with open(path, "a") as lines:
        lines.write(json.dumps(n) + "\\n")
    return n
"""


@pytest.fixture
def redis():
    """Two servers, three Sentinels."""
    with Sentinels() as sentinels:
        yield sentinels


@pytest.fixture
def project(redis, tmp_path):
    """The application; its folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "jobs.py").write_text(PROGRAM.format(name=NAME, url=redis.url))
    return folder


@pytest.fixture
def producer(redis, monkeypatch):
    """A producer of its own, as a web process is one."""
    for variable in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):  # to Celery they are more than its arguments
        monkeypatch.delenv(variable, raising=False)
    options = {"master_name": NAME}
    app = Celery("producer", broker=redis.url, backend=redis.url, set_as_current=False)
    app.conf.update(broker_transport_options=options, result_backend_transport_options=options)
    yield app
    app.backend.result_consumer.stop()
    app.close()


@pytest.fixture
def daemon(redis, project, fairstalk):
    """Two workers with two slots each."""
    return fairstalk(
        broker={"url": redis.url, "master_name": NAME},
        queues={"names": ["celery"]},
        python={"app": "jobs", "directory": project, "env": None},
        tenancy=None,
    )


class Load:
    """Tasks that write down their number."""

    def __init__(self, producer, path):
        self.producer = producer
        self.path = path
        self.results = []

    def send(self, count, seconds=0.02):
        first = len(self.results)
        for n in range(first, first + count):
            self.results.append(self.producer.send_task("note", (n, str(self.path), seconds)))

    def ran(self):
        """Numbers that were written, each as often as its task ran."""
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def check(self):
        """Every task has run, and its result is there."""
        eventually(lambda: set(self.ran()) == set(range(len(self.results))), PATIENCE, lambda: f"{len(set(self.ran()))}")
        assert [result.get(timeout=PATIENCE) for result in self.results] == list(range(len(self.results)))


@pytest.fixture
def load(producer, tmp_path):
    """See `Load`."""
    return Load(producer, tmp_path / "ran")


def test_everything_goes_to_the_primary(redis, daemon, load):
    """Tasks and results, the commands, and who the broker is in `celery inspect`; results are stored in one step."""
    load.send(20)
    load.check()
    done = daemon.call("check")
    assert done.returncode == 0, done.stderr
    assert f"{NAME} of the sentinels 127.0.0.1:" in done.stdout and "database 0 of the same Redis" in done.stdout
    done = daemon.call("enqueue", "note", "--args", json.dumps([20, str(load.path)]), "--wait")
    assert json.loads(done.stdout)["result"] == 20, done
    assert daemon.call("status").returncode == 0
    stats = load.producer.control.inspect(timeout=5).stats()
    assert {worker["broker"]["transport"] for worker in stats.values()} == {"sentinel"}


def test_the_primary_dies_under_load(redis, daemon, load):
    """What the replica has got is done, every task of it, by the same workers."""
    load.send(400)
    primary = redis.primary()
    with primary.client() as client:
        # Replication is asynchronous: only what the replica has confirmed can be asked for afterwards.
        assert client.wait(1, 10_000) == 1
    before = len(load.ran())
    assert before < 400, "there is nothing left to lose"
    primary.stop()
    eventually(lambda: redis.primary() is not primary, PATIENCE, redis.log)
    daemon.wait_log("Redis is back", timeout=PATIENCE)
    load.send(50)
    load.check()
    with redis.client() as client:
        eventually(lambda: client.hlen("unacked") == 0 and client.llen("celery") == 0, PATIENCE)
    assert daemon.stop() == 0


def test_the_primary_hands_over_under_load(redis, daemon, load):
    """A failover that somebody asks for: the old primary lives on as a replica, and nobody writes to it."""
    load.send(200)
    primary = redis.primary()
    redis.fail_over()
    eventually(lambda: redis.primary() is not primary, PATIENCE, redis.log)
    daemon.wait_log("Redis is back", timeout=PATIENCE)
    load.send(50)
    load.check()
    assert daemon.stop() == 0


def test_the_way_back(redis, project, daemon, load, tmp_path):
    """What the daemon leaves, a stock worker finishes on the same URL."""
    load.send(60, seconds=0.1)
    eventually(lambda: len(load.ran()) >= 2)
    assert daemon.stop() == 0
    command = [sys.executable, "-m", "celery", "-A", "jobs", "worker", "-c", "2", "--loglevel", "INFO"]
    worker = ProcessUnderTest(command, tmp_path / "celery.log", clean_environment(), project)
    try:
        load.check()
    finally:
        worker.clear_away()


def test_what_may_be_wrong(redis, daemon):
    """A primary that is none any more, a name nobody knows, and Sentinels that are not there."""
    with redis.client() as client:
        client.replicaof("127.0.0.1", 1)
        done = daemon.call("status")
        assert done.returncode == UNAVAILABLE and "is a replica: there is no other primary yet" in done.stderr, done
        client.replicaof("NO", "ONE")
    config = daemon.config_file.read_text()
    daemon.configure(config.replace(f'"{NAME}"', '"nobody"'))
    done = daemon.call("status")
    assert done.returncode == CONFIG and "know no primary of this name" in done.stderr, done
    for process in redis.processes[:2]:
        process.kill()
        process.wait()
    daemon.configure(config)
    assert daemon.call("status").returncode == 0, "one is enough to ask"
    redis.processes[2].kill()
    redis.processes[2].wait()
    done = daemon.call("status")
    assert done.returncode == UNAVAILABLE and done.stderr.count("Connection refused") == 3, done


def test_sentinels_with_a_password(fairstalk, tmp_path):
    """It is in a file of its own; without it is said which key it belongs to."""
    file = tmp_path / "password"
    file.write_text("s3cret\n")
    with Sentinels(password="s3cret", count=1) as sentinels:
        broker = {"url": sentinels.url, "master_name": NAME, "sentinel_password_file": file}
        daemon = fairstalk(broker=broker, python=None, **{'tasks."echo"': {"command": ["/bin/cat"]}})
        assert daemon.call("status").returncode == 0
        file.write_text("wr0ng\n")
        done = daemon.call("status")
        assert done.returncode == CONFIG and "sentinel_password_file" in done.stderr, done
        assert "wr0ng" not in done.stderr and "s3cret" not in daemon.log()
