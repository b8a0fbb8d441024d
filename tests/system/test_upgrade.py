"""A new version of the package while tasks run."""
from harness.installation import Installation
from harness.packages import HIGHER_VERSION


def test_upgrade_under_load(machine, package, higher_package):
    """The daemon is restarted after it has finished what ran; nothing is lost, nothing runs twice, edits are kept."""
    service = Installation(machine, package)
    service.configure()
    service.start()
    text = machine.path("/etc/fairstalk/fairstalk.toml").read_text()
    supervisor = service.supervisor().pid
    with service.load() as ids:
        service.install(higher_package)
        assert service.active() == "active"
        assert service.supervisor().pid != supervisor
        service.ledger().wait("end", len(service.ledger().lines("end")) + 10)
    service.check_records(ids)
    shown = machine.run("dpkg-query", "--show", "--showformat=${Version} ${Status}", "fairstalk").stdout
    assert shown == f"{HIGHER_VERSION} install ok installed"
    assert machine.path("/etc/fairstalk/fairstalk.toml").read_text() == text
    assert machine.run("stat", "-c", "%a %U:%G", "/etc/fairstalk/fairstalk.toml").stdout.strip() == "640 root:fairstalk"


def test_upgrade_of_a_stopped_daemon(machine, package, higher_package):
    """It stays stopped."""
    service = Installation(machine, package)
    service.configure()
    service.install(higher_package)
    assert service.active() == "inactive"
    service.start()
    assert service.call("results", [service.call("send", "add", 2, 3)]) == [5]
