"""`systemctl reload` while tasks run: it ends when the new settings and the new code are in use, or it fails."""
from harness.installation import APPLICATION, UNIT

STATE = ("ActiveState", "NRestarts", "MainPID")
TASKS = f"{APPLICATION}/bench/tasks.py"


def pids(service):
    """Pids of everything the supervisor has started."""
    return {process.pid for process in service.processes()}


def change_code(service, new):
    """Have the task `add` return something else; what it returns for (2, 3) from then on."""
    file = service.container.path(TASKS)
    text = file.read_text()
    assert text.count("return x + y\n") == 1
    file.write_text(text.replace("return x + y\n", f"{new}\n"))


def add(service):
    """2 + 3, as the application's code has it now."""
    (result,) = service.call("results", [service.call("send", "add", 2, 3)])
    return result


def test_reload_under_load(service):
    """One more slot in each worker, and another version of the application; not a task is lost or run twice."""
    service.start()
    before, state = pids(service), service.container.properties(UNIT, *STATE)
    with service.load() as ids:
        service.configure(workers={"concurrency": 3})
        change_code(service, "return 1000 + x + y")
        service.container.run("systemctl", "reload", UNIT)
        assert service.container.properties(UNIT, *STATE) == state
        assert not before & pids(service)
        assert len(service.processes("runner of")) == 6
        assert add(service) == 1005
    service.check_records(ids)


def test_a_broken_file_under_load(service):
    """The command fails and the journal says what is wrong; everything goes on as it was."""
    service.start()
    before, state = pids(service), service.container.properties(UNIT, *STATE)
    with service.load() as ids:
        service.configure(workers={"concurrency": "many"})
        failed = service.container.run("systemctl", "reload", UNIT, check=False)
        assert failed.returncode != 0
        assert service.container.properties(UNIT, *STATE) == state
        service.wait_status("reload failed")
        assert pids(service) == before
        said = [entry["MESSAGE"] for entry in service.container.journal(f"--unit={UNIT}", "--priority=err")]
        assert any("workers.concurrency" in message for message in said), said
    service.check_records(ids)
    service.configure()
    service.container.run("systemctl", "reload", UNIT)
    assert "reload failed" not in service.status_text()
    assert not before & pids(service)


def test_an_application_that_cannot_be_imported(service):
    """The same, with a mistake in the application instead."""
    service.start()
    before, state = pids(service), service.container.properties(UNIT, *STATE)
    change_code(service, "return x +")
    assert service.container.run("systemctl", "reload", UNIT, check=False).returncode != 0
    assert service.container.properties(UNIT, *STATE) == state
    service.wait_status("reload failed")
    assert pids(service) == before
    service.add_application()
    assert add(service) == 5
