"""Two applications on one host and one Redis: fairstalk@one and fairstalk@two."""
from harness.installation import configuration

QUEUES = {"one": "queue_1", "two": "queue_2"}


def state(name):
    """Where tasks of this instance may write."""
    return f"/var/lib/fairstalk-{name}"


def test_two_instances(service):
    """Each runs its own tasks, and one can be stopped and removed while the other goes on."""
    run = service.container.run
    for name, queue in QUEUES.items():
        service.configure(name, base=configuration(state(name)), queues={"names": [queue]})
        run("systemctl", "start", f"fairstalk@{name}.service")
    ids = {name: service.send_records(200, 0.1, QUEUES[name], state(name)) for name in ("two", "one")}
    service.ledger(state("one")).wait("end", 1)
    run("systemctl", "stop", "fairstalk@one.service")
    assert service.active("fairstalk@two.service") == "active"
    service.check_records(ids["two"], state=state("two"))
    ended = service.ledger(state("one")).numbers("end")
    assert 0 < len(ended) < 200
    assert int(service.redis("LLEN", QUEUES["one"])) == 200 - len(ended)
    run("systemctl", "start", "fairstalk@one.service")
    service.check_records(ids["one"], state=state("one"))
    run("systemctl", "stop", "fairstalk@one.service", "fairstalk@two.service")
    assert service.container.processes("fairstalk") == []
