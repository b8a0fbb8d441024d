"""What an operator sees of a running daemon: systemctl, journalctl, systemd-analyze."""
from harness.installation import UNIT

EXPOSURE = 25


def test_systemctl_status(service):
    """The tree of processes by their titles, and a line that says how things stand."""
    service.start()
    service.send_records(4, 60)
    service.ledger().wait("start", 4)
    service.wait_status("4/4 slots busy")
    shown = service.container.run("systemctl", "status", UNIT).stdout
    for title, count in (("/usr/bin/fairstalk run", 1), ("fairstalk: zygote", 1), ("fairstalk: worker ", 2), ("runner of", 4)):
        assert sum(title in line for line in shown.splitlines()) == count, shown
    assert 'Status: "4/4 slots busy' in shown
    assert service.container.properties(UNIT, "NRestarts", "User") == {"NRestarts": "0", "User": "fairstalk"}


def test_the_story_of_a_task(service):
    """journalctl by the task's id: taken, its own output line by line, settled; each with its fields."""
    service.configure(log={"tasks": "all"})
    service.start()
    told, other = service.call("send", "log_lines", 1), service.call("send", "fail", "on purpose")
    service.call("results", [told, other])
    story = service.container.journal(f"--unit={UNIT}", f"TASK_ID={told}")
    messages = [entry["MESSAGE"] for entry in story]
    output = ["task logger 0", "module logger 0", "print 0", "descriptor 0", "subprocess 0"]
    assert messages[0] == "started" and messages[-1] == "succeeded"
    assert sorted(messages[1:-1]) == sorted(output)
    for entry in story:
        assert (entry["TASK_NAME"], entry["QUEUE"], entry["ATTEMPT"]) == ("bench.tasks.log_lines", "queue_0", "1")
        assert entry["WORKER"] in ("1", "2") and int(entry["RUNNER_PID"]) > 0
        assert entry["PRIORITY"] == ("4" if entry["MESSAGE"] in ("module logger 0", "print 0") else "6")
    assert story[-1]["OUTCOME"] == "succeeded" and int(story[-1]["RUNTIME_MS"]) >= 0
    failure = service.container.journal(f"--unit={UNIT}", f"TASK_ID={other}", "OUTCOME=failed")
    assert len(failure) == 1 and failure[0]["PRIORITY"] == "3"
    assert "ValueError: on purpose" in failure[0]["MESSAGE"]


def test_exposure(service):
    """`systemd-analyze security`, measured on the running unit: 2.5 at most, where 10 is unprotected."""
    service.start()
    service.container.run("systemd-analyze", "security", f"--threshold={EXPOSURE}", UNIT)


def test_the_units_are_valid(service):
    """systemd finds nothing to complain about in the units, with everything installed that they name."""
    done = service.container.run("systemd-analyze", "verify", "--man=no", UNIT, "fairstalk@one.service")
    assert "fairstalk" not in done.stderr
