"""What systemd and the daemon make of processes that are killed or hang, while tasks run."""
import signal

from harness.installation import UNIT
from harness.waiting import eventually

SLOTS = 2
TASKS, SECONDS = 100, 0.1


def begin(service, **sections):
    """Start the daemon and load it; the ids of the tasks, some of which run now."""
    service.configure(**sections)
    service.start()
    ids = service.send_records(TASKS, SECONDS)
    service.ledger().wait("start", 2 * SLOTS)
    return ids


def replaced(service, title, before):
    """Wait for one process with this title that has another pid."""

    def found():
        pids = [process.pid for process in service.processes(title)]
        return len(pids) == 1 and pids[0] != before

    eventually(found, 30, lambda: f"another {title}; there is {service.container.processes('fairstalk')}")


def restarted(service, times):
    """Wait until systemd has started the daemon again and it is ready."""

    def properties():
        return service.container.properties(UNIT, "NRestarts", "ActiveState")

    eventually(lambda: properties() == {"NRestarts": str(times), "ActiveState": "active"}, 60, properties)


def test_a_worker_is_killed(service):
    """Another takes its place and finds what it had; the daemon goes on."""
    ids = begin(service)
    (worker,) = service.processes("worker 1")
    supervisor = service.supervisor().pid
    service.container.kill(worker.pid)
    replaced(service, "worker 1", worker.pid)
    service.check_records(ids, reruns=SLOTS)
    assert service.supervisor().pid == supervisor
    restarted(service, 0)


def test_a_worker_hangs(service):
    """It is noticed by its silence, killed and replaced."""
    ids = begin(service, workers={"liveness_timeout": "5s"})
    (worker,) = service.processes("worker 2")
    service.container.kill(worker.pid, signal.SIGSTOP)
    replaced(service, "worker 2", worker.pid)
    service.check_records(ids, reruns=SLOTS)
    restarted(service, 0)


def test_the_supervisor_is_killed(service):
    """systemd starts it again; nothing of the old one runs beside the new one."""
    ids = begin(service)
    old = {process.pid for process in service.processes()}
    service.container.kill(service.supervisor().pid)
    restarted(service, 1)
    assert not old & {process.pid for process in service.processes()}
    service.check_records(ids, reruns=2 * SLOTS)


def test_the_supervisor_hangs(service):
    """systemd's watchdog ends it and starts another."""
    service.drop_in("WatchdogSec=6s")
    ids = begin(service)
    service.container.kill(service.supervisor().pid, signal.SIGSTOP)
    restarted(service, 1)
    assert any("Watchdog timeout" in entry["MESSAGE"] for entry in service.container.journal(f"UNIT={UNIT}", "--boot"))
    service.check_records(ids, reruns=2 * SLOTS)


def test_a_task_is_killed_again_and_again(service):
    """It becomes a dead letter after its last try; its neighbours finish, each once."""
    ids = begin(service)
    poison = service.call("send", "kill_self")
    assert service.call("results", [poison]) == ["WorkerLostError"]
    service.check_records(ids)
    assert [(letter["id"], letter["reason"]) for letter in service.dead_letters()] == [(poison, "runner-lost")]


def test_a_task_that_outgrows_its_limit(service):
    """It alone is killed, at once and for good; the journal and the dead letters say why, its neighbours finish."""
    ids = begin(service, workers={"memory_limit": "256MiB"})
    supervisor, workers = service.supervisor().pid, {process.pid for process in service.processes("worker")}
    hog = service.call("send", "allocate", 1024, 60)
    assert service.call("results", [hog]) == ["WorkerLostError"]
    service.check_records(ids)
    (letter,) = service.dead_letters()
    assert (letter["id"], letter["reason"]) == (hog, "oom")
    assert letter["memory_peak"] >= 256 * 1024 * 1024
    told = service.container.journal(f"--unit={UNIT}", f"TASK_ID={hog}", "OUTCOME=oom")
    assert [entry["PRIORITY"] for entry in told] == ["3"]
    assert service.supervisor().pid == supervisor
    assert {process.pid for process in service.processes("worker")} == workers
