"""Stopping and booting, with tasks under way."""
from harness.installation import UNIT

RESULT = ("ActiveState", "Result", "ExecMainStatus")


def test_stop_under_load(service):
    """What runs may finish, what takes too long is handed back; systemd never has to kill."""
    service.configure(workers={"drain_timeout": "4s"})
    # Else systemd forgets a unit that is stopped, and with it how it ended.
    service.container.run("systemctl", "enable", UNIT)
    service.start()
    long = service.call("send_records", "/dev/null", 2, 60)
    ids = service.send_records(150, 0.2)
    service.ledger().wait("end", 1)
    service.container.run("systemctl", "stop", UNIT)
    assert service.container.properties(UNIT, *RESULT) == dict(zip(RESULT, ("inactive", "success", "75"), strict=True))
    ended = service.ledger().numbers("end")
    assert sorted(ended) == sorted(service.ledger().numbers("start"))
    assert service.waiting() == len(long) + len(ids) - len(ended)
    assert service.container.processes("fairstalk") == []
    service.wait_settled()


def test_reboot_under_load(service):
    """The machine goes down in the middle of it, and comes up with the enabled unit, which does the rest."""
    service.start()
    service.container.run("systemctl", "enable", UNIT)
    ids = service.send_records(150, 0.2)
    service.ledger().wait("start", 4)
    service.container.reboot()
    assert 0 < len(service.ledger().lines("end")) < len(ids)
    assert service.active() == "active"
    service.check_records(ids)


def test_sent_before_boot(service):
    """Tasks that were sent while no daemon ran, one of them for later, are run by the daemon that starts at boot."""
    service.container.run("systemctl", "enable", UNIT)
    service.container.run("install", "-d", "-o", "fairstalk", "/var/lib/fairstalk")
    ids = service.send_records(8, 0)
    late = service.call("send_later", 1, "add", 2, 3)
    assert service.waiting() == 9
    service.container.reboot()
    service.check_records(ids)
    assert service.call("results", [late]) == [5]
