"""Redis over TLS: a server that has no other port, Celery's own clients beside it, and everything that may be wrong."""
import json
import os
import socket
import threading

import pytest
from celery import chord
from harness.broker import wait_settled
from harness.daemon import Fairstalk, base_config
from harness.redis_server import RedisServer
from harness.tls import Authority, TlsServer
from harness.waiting import eventually

from bench import tasks
from imgbackend.routing import enqueue_task_to_user_queue

PATIENCE = 40
CONFIG = 78
UNAVAILABLE = 69


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """An authority that nobody but this test trusts."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def certificate(authority):
    """The server's."""
    return authority.sign("server", "DNS:localhost", "IP:127.0.0.1")


@pytest.fixture
def redis(authority, certificate):
    """It has no port without TLS."""
    with TlsServer(authority, certificate) as server:
        yield server


@pytest.fixture
def check(tmp_path):
    """`check(url)`: exit code and words of `fairstalk check`."""

    def run(url, **broker):
        config = {"broker": {"url": url, **broker}, 'tasks."echo"': {"command": ["/bin/cat"]}}
        daemon = Fairstalk.__new__(Fairstalk)
        daemon.config_file = tmp_path / "fairstalk.toml"
        daemon.env = dict(os.environ)
        daemon.configure(config)
        done = daemon.call("check")
        return done.returncode, done.stdout + done.stderr

    return run


def test_everything_goes_over_it(celery_app, redis, fairstalk, client):
    """Producers, results, chords, retries, ETA, remote control and events: as without TLS, with results in one step."""
    daemon = fairstalk(**{'tasks."echo"': {"command": ["/bin/cat"]}})
    assert enqueue_task_to_user_queue(tasks.add, 42, 2, 3).get(timeout=PATIENCE) == 5
    assert chord((tasks.add.s(n, 1) for n in range(5)), tasks.total.s()).apply_async().get(timeout=PATIENCE) == 15
    large = tasks.add.delay("a" * 3_000_000, "b" * 1_000_000).get(timeout=PATIENCE)
    assert len(large) == 4_000_000
    assert tasks.flaky.delay(1).get(timeout=PATIENCE) is not None
    assert tasks.add.apply_async((1, 1), countdown=0.3).get(timeout=PATIENCE) == 2
    assert celery_app.send_task("echo", queue="queue_0").get(timeout=PATIENCE)["task"] == "echo"
    stats = celery_app.control.inspect(timeout=5).stats()
    assert len(stats) == 2
    for worker in stats.values():
        assert worker["broker"]["transport"] == "rediss" and worker["broker"]["ssl"]
    wait_settled(client)
    # The server has no other door but a socket in a folder, and nobody but we came by that.
    by_socket = [entry["addr"].startswith("/") for entry in client.client_list()]
    assert by_socket.count(True) == 1 and by_socket.count(False) >= 4
    assert daemon.stop() == 0
    assert "ERROR" not in daemon.log()


def test_every_command_works(celery_app, redis, fairstalk):
    """Those that read, those that write, and `enqueue --wait`, which reads results."""
    daemon = fairstalk()
    done = daemon.call("check")
    assert done.returncode == 0, done.stderr
    assert f"at localhost:{redis.port} answers" in done.stdout and "same Redis" in done.stdout, done.stdout
    done = daemon.call("enqueue", "bench.tasks.add", "--args", "[2, 3]", "--wait")
    assert json.loads(done.stdout)["result"] == 5, done
    for command in (["status"], ["queues"], ["tenants"], ["dead", "list"], ["metrics"], ["pause", "7"], ["resume", "7"],
                    ["revoke", "nothing"]):
        done = daemon.call(*command)
        assert done.returncode == 0, (command, done)
    assert len(daemon.ask("status")[0]["workers"]) == 2
    assert daemon.stop() == 0
    assert daemon.call("hand-back").returncode == 0


def test_an_outage(celery_app, redis, fairstalk, ledger):
    """The server goes, without its data, and comes back: workers connect again and go on."""
    daemon = fairstalk(broker={"timeout": "2s"})
    running = [tasks.record.delay(1, n, str(ledger), seconds=2) for n in range(2)]
    ledger.wait("start", 2)
    redis.stop()
    daemon.wait_log("Redis lost")
    redis.start()
    daemon.wait_log("Redis is back")
    assert [task.get(timeout=PATIENCE) for task in running] == [0, 1]
    assert tasks.add.delay(1, 2).get(timeout=PATIENCE) == 3


def test_the_way_back(celery_app, redis, fairstalk, stock_worker, ledger):
    """What the daemon leaves, a stock worker finishes on the same URL."""
    daemon = fairstalk(workers={"processes": 1, "concurrency": 1, "drain_timeout": "1s"})
    sent = [tasks.record.delay(1, n, str(ledger), seconds=0.3) for n in range(8)]
    ledger.wait("end", 2)
    assert daemon.stop() in (0, 75)
    with stock_worker("-c", "1"):
        assert [task.get(timeout=PATIENCE) for task in sent] == list(range(8))


def test_a_client_certificate(authority, certificate, tmp_path, check, fairstalk, app_env):
    """A server that wants one: with it everything works, in one file or in two; without, it is said what is missing."""
    ours = authority.sign("client")
    other = Authority(tmp_path / "other").sign("stranger")
    both = tmp_path / "both.pem"
    both.write_bytes(ours.read_bytes() + ours.with_suffix(".key").read_bytes())
    with TlsServer(authority, certificate, "--tls-auth-clients", "yes") as server:
        ca = {"ca_certs": authority.certificate}
        url = server.secured(**ca, certfile=ours, keyfile=ours.with_suffix(".key"))
        daemon = fairstalk(
            broker={"url": url},
            python={"env": {**app_env, "CELERY_BROKER_URL": url, "CELERY_RESULT_BACKEND": url + "&ssl_cert_reqs=required"}},
        )
        done = daemon.call("enqueue", "bench.tasks.add", "--args", "[2, 3]", "--wait")
        assert json.loads(done.stdout)["result"] == 5, done
        assert check(server.secured(**ca, certfile=both))[0] == 0
        code, said = check(server.secured(**ca))
        assert code == CONFIG and "ssl_certfile=" in said and "wants a certificate" in said, said
        code, said = check(server.secured(**ca, certfile=other, keyfile=other.with_suffix(".key")))
        assert code == CONFIG and f"does not accept the certificate in {other}" in said, said


def test_what_is_asked_of_the_certificate(authority, redis, tmp_path, check):
    """An authority that vouches for it and the right name, unless it is said otherwise."""
    stranger = Authority(tmp_path / "stranger").certificate
    code, said = check(redis.secured())
    assert code == CONFIG and "no authority that this system trusts" in said and "?ssl_ca_certs=" in said, said
    code, said = check(redis.secured(ca_certs=stranger))
    assert code == CONFIG and f"no certificate in {stranger} vouches" in said, said
    assert check(redis.secured(cert_reqs="CERT_OPTIONAL", ca_certs=stranger))[0] == CONFIG
    for nothing in ("none", "CERT_NONE"):
        code, said = check(redis.secured(cert_reqs=nothing))
        assert code == 0 and "warning: " in said and "anybody on the way can pose as this server" in said, said
    redis.host = "127.0.0.1"
    code, said = check(redis.url)
    assert code == 0 and "pose" not in said, said


def test_the_authorities_of_the_system(authority, redis, check, monkeypatch):
    """Without ssl_ca_certs those of the system are asked, which OpenSSL's variable may name."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    assert check(redis.secured())[0] == 0


def test_a_certificate_for_another_host(authority, check):
    """It says for which host it is, and how to do without the check."""
    certificate = authority.sign("elsewhere", "DNS:redis.example", "IP:10.1.2.3")
    with TlsServer(authority, certificate) as server:
        code, said = check(server.url)
        assert code == CONFIG and "is for redis.example, 10.1.2.3, not for localhost" in said, said
        assert check(server.url + "&ssl_check_hostname=false")[0] == 0


def test_a_certificate_that_is_its_own_authority(authority, check):
    """As many have it, and as OpenSSL accepts it; for the right name only."""
    own = authority.own("localhost", "DNS:localhost")
    with TlsServer(authority, own) as server:
        assert check(server.secured(ca_certs=own))[0] == 0
        server.host = "127.0.0.1"
        code, said = check(server.secured(ca_certs=own))
        assert code == CONFIG and "is for localhost, not for 127.0.0.1" in said, said
        assert check(server.secured(ca_certs=own, check_hostname="false"))[0] == 0


def test_a_certificate_whose_time_is_over(authority, check):
    """To be mended on the server, so it may be waited for."""
    certificate = authority.sign("old", "DNS:localhost", days=-1)
    with TlsServer(authority, certificate) as server:
        code, said = check(server.url)
        assert code == UNAVAILABLE and "the server's certificate has expired" in said, said


def test_tls_and_none_mixed_up(authority, redis, check):
    """A port that speaks TLS asked without it, and the other way round."""
    code, said = check(f"redis://localhost:{redis.port}/0")
    assert code == UNAVAILABLE and "if this is its port for TLS, write rediss://" in said, said
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def answer(words):
            with listener.accept()[0] as asked:
                asked.recv(1024)
                asked.sendall(words)
                asked.shutdown(socket.SHUT_WR)
                asked.recv(1024)

        for words, expected, says in (
            (b"-ERR unknown command\r\n", CONFIG, "what answers does not speak TLS"),
            (b"", UNAVAILABLE, "the server ended the TLS handshake"),
        ):
            threading.Thread(target=answer, args=[words], daemon=True).start()
            code, said = check(f"rediss://127.0.0.1:{listener.getsockname()[1]}/0?ssl_ca_certs={authority.certificate}")
            assert code == expected and says in said, said


def test_a_redis_without_tls(authority, check):
    """It never answers a handshake: that is said when the time is over."""
    with RedisServer() as plain:
        url = f"rediss://localhost:{plain.port}/0?ssl_ca_certs={authority.certificate}"
        code, said = check(url, timeout="500ms")
        assert code == UNAVAILABLE and "did not answer the TLS handshake" in said and "redis://" in said, said


def test_a_daemon_with_the_wrong_authority_ends(redis, app_env, tmp_path):
    """Waiting would not mend it, and no password is told."""
    stranger = Authority(tmp_path / "stranger").certificate
    config = base_config(redis.secured("user:s3cret@", ca_certs=stranger), app_env)
    daemon = Fairstalk(tmp_path / "daemon", config)
    try:
        assert daemon.wait(PATIENCE) == CONFIG, daemon.log()
        assert f"localhost:{redis.port}" in daemon.log() and f"no certificate in {stranger} vouches" in daemon.log()
        assert "s3cret" not in daemon.log()
    finally:
        daemon.close()


def test_files_are_read_anew_for_each_connection(authority, redis, fairstalk, tmp_path, celery_app):
    """A certificate that is renewed on disk takes neither a restart nor a reload, even if the server has it first."""
    file = tmp_path / "ca.crt"
    file.write_bytes(authority.certificate.read_bytes())
    daemon = fairstalk(broker={"url": redis.secured(ca_certs=file)})
    new = Authority(tmp_path / "new")
    renewed = new.sign("server", "DNS:localhost", "IP:127.0.0.1")
    with redis.client() as client:
        # All at once: alone, none of them would fit the others.
        client.config_set("tls-ca-cert-file", str(new.certificate), "tls-key-file", str(renewed.with_suffix(".key")),
                          "tls-cert-file", str(renewed))
        for entry in client.client_list():
            if not entry["addr"].startswith("/"):
                client.client_kill_filter(_id=entry["id"], skipme=True)
    daemon.wait_log("no certificate in .* vouches for that of the server")
    file.write_bytes(authority.certificate.read_bytes() + new.certificate.read_bytes())
    daemon.wait_log("Redis is back")
    eventually(lambda: daemon.call("status").returncode == 0)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"ca_certs": "/nowhere/ca.crt"}, "/nowhere/ca.crt can't be read: No such file"),
        ({"ca_certs": "empty.pem"}, "there is no certificate in"),
        ({"ca_certs": "torn.pem"}, "is not PEM"),
        ({"certfile": "ca.crt", "keyfile": "empty.pem"}, "there is no private key in"),
        ({"certfile": "ca.crt", "keyfile": "locked.pem"}, "is protected by a passphrase"),
        ({"certfile": "ca.crt", "keyfile": "server.key"}, "is not that of"),
        ({"certfile": "ca.crt"}, "there is no private key in"),
        ({"keyfile": "ca.key"}, "ssl_keyfile without ssl_certfile"),
        ({"ca_certs": "redis-ca"}, "add LoadCredential=redis-ca:"),
    ],
)
def test_files_that_cannot_be_used(authority, certificate, check, files, says):
    """Each is named, with what is wrong and what to do, before anything is connected."""
    folder = authority.folder
    (folder / "empty.pem").write_text("nothing\n")
    (folder / "torn.pem").write_text("".join(authority.certificate.read_text().splitlines(True)[:4]))
    (folder / "locked.pem").write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nc2VjcmV0\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    files = {name: folder / value if (folder / value).exists() else value for name, value in files.items()}
    url = "rediss://:s3cret@localhost:1/0?" + "&".join(f"ssl_{name}={value}" for name, value in files.items())
    code, said = check(url if "ca_certs" in files else f"{url}&ssl_ca_certs={authority.certificate}")
    assert code == CONFIG and "broker.url" in said and says in said and "remedy:" in said, said
    assert "s3cret" not in said


def test_a_credential_holds_the_key(authority, certificate, check, tmp_path, monkeypatch):
    """A bare name is that of a systemd credential, as for the password."""
    ours = authority.sign("client")
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "redis-key").write_bytes(ours.with_suffix(".key").read_bytes())
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    with TlsServer(authority, certificate, "--tls-auth-clients", "yes") as server:
        code, said = check(server.secured(ca_certs=authority.certificate, certfile=ours, keyfile="redis-key"))
        assert code == 0, said
