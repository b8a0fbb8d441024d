"""Two applications on one host and one Redis: fairstalk@one and fairstalk@two."""
from harness.installation import Installation, configuration

ONE, TWO = "fairstalk@one.service", "fairstalk@two.service"
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
    run("systemctl", "stop", ONE)
    assert service.active(TWO) == "active"
    service.check_records(ids["two"], state=state("two"))
    ended = service.ledger(state("one")).numbers("end")
    assert 0 < len(ended) < 200
    assert int(service.redis("LLEN", QUEUES["one"])) == 200 - len(ended)
    run("systemctl", "start", ONE)
    service.check_records(ids["one"], state=state("one"))
    run("systemctl", "stop", ONE, TWO)
    assert service.container.processes("fairstalk") == []


def test_upgrade_remove_and_purge(machine, package, higher_package):
    """An upgrade restarts an instance that runs; remove stops it; purge leaves nothing of it."""
    service = Installation(machine, package)
    service.configure("one", base=configuration(state("one")))
    machine.run("systemctl", "enable", "--now", ONE)
    before = machine.properties(ONE, "MainPID")
    service.install(higher_package)
    assert machine.properties(ONE, "MainPID") != before
    assert (service.active(ONE), service.active()) == ("active", "inactive")
    machine.run("apt-get", "remove", "--yes", "fairstalk")
    assert machine.processes("fairstalk") == []
    machine.run("apt-get", "purge", "--yes", "fairstalk")
    left = machine.run("find", "/etc", "/lib", "/usr", "/var/lib/fairstalk-one", "-name", "*fairstalk*", check=False)
    assert left.stdout == ""
