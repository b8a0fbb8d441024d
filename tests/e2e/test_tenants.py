"""What operators see of tenants, what they grant them, and how it is found out who they are."""
import json

import pytest
from harness.broker import of_fleet, wait_settled
from harness.waiting import eventually

from bench import tasks
from imgbackend.routing import enqueue_task_to_user_queue, get_queue_for_user

TENANCY = {"parameter": "user_id"}
NOTHING = {"parameter": None}
# Some of these tasks take minutes; nobody waits for them.
NOW = {"drain_timeout": "0s"}
BULK = 1
# Enough for other commands to be run meanwhile.
MANY = 300


def users(shares, count, after=BULK):
    """Users whose queue is that of BULK, or is neither that nor the default one."""
    queue = get_queue_for_user(BULK)
    fits = (lambda other: other == queue) if shares else (lambda other: other not in (queue, "queue_0"))
    found = (user for user in range(after + 1, 100_000) if fits(get_queue_for_user(user)))
    return [next(found) for _ in range(count)]


def send(ledger, user, count, seconds=0.0, first=0, **options):
    """`count` tasks of one user, numbered."""
    for n in range(first, first + count):
        tasks.record.apply_async((user, n, str(ledger), seconds), queue=get_queue_for_user(user), **options)


def tenant(daemon, name):
    """The line of one tenant, or None."""
    return next((line for line in daemon.ask("tenants", "--limit", 1000) if line["tenant"] == str(name)), None)


def explained(daemon, name):
    """The explanation of one tenant."""
    [line] = daemon.ask("tenants", "--explain", name)
    return line["explanation"]


def most_at_once(lines, user):
    """How many tasks of a user were under way at once, by the ledger."""
    now = most = 0
    for line in lines:
        if line["user"] == user:
            now += 1 if line["event"] == "start" else -1
            most = max(most, now)
    return most


def test_tenants_are_shown_with_what_they_have_and_had(celery_app, client, fairstalk, ledger):
    """Who waits, who runs, who has had what; a tenant of which nothing is left leaves no figures in Redis."""
    # Where anybody has a limit, every task passes through a lane, and so is charged from its start.
    tenancy = {**TENANCY, "weights": {"1": 2}, "max_concurrency": {"nobody": 1}}
    daemon = fairstalk(workers={"processes": 1, "concurrency": 2, **NOW}, tenancy=tenancy)
    quiet = users(shares=True, count=1)[0]
    send(ledger, BULK, 4, seconds=0.3)  # more than its credit
    send(ledger, BULK, 6, seconds=60)
    ledger.wait("start", 6)
    send(ledger, quiet, 2)
    eventually(lambda: (tenant(daemon, quiet) or {}).get("waiting") == 2)
    bulk = eventually(lambda: (line := tenant(daemon, BULK)) and line["share"] > 0.99 and line)
    assert (bulk["waiting"], bulk["running"], bulk["weight"], bulk["paused"]) == (4, 2, 2, False)
    assert bulk["wait_p50_ms"] is not None and bulk["oldest_ms"] >= 0
    assert [line["tenant"] for line in daemon.ask("tenants", "--limit", 1)] == [str(BULK)]
    assert [line["tenant"] for line in daemon.ask("tenants", "--limit", 1, "--sort", "share")] == [str(BULK)]
    text = daemon.call("tenants").stdout.splitlines()
    assert text[0].split() == "TENANT WAITING RUNNING SHARE WAIT P50 WAIT P99 OLDEST WEIGHT LIMITS".split()
    assert text[1].split()[:3] == [str(BULK), "4", "2"]
    assert sum(line["waiting"] for line in daemon.ask("queues")) == 6
    why = explained(daemon, quiet)
    assert why["verdict"].startswith("is next: "), why
    assert why["named_by"] == 'the parameter "user_id", as [tenancy] says'
    assert explained(daemon, BULK)["verdict"].startswith("is next but one")
    assert explained(daemon, 99)["verdict"] == "has nothing waiting in lanes"


def test_waits_are_measured_from_the_lane_to_the_start(celery_app, fairstalk, ledger):
    """Ten tasks through one slot: the last one has waited as long as the nine others took."""
    daemon = fairstalk(workers={"processes": 1, "concurrency": 1, **NOW}, tenancy=TENANCY)
    send(ledger, BULK, 10, seconds=0.3)
    ledger.wait("end", 10)
    lines = ledger.lines("start")
    longest = (lines[-1]["time"] - lines[0]["time"]) * 1000

    def told():
        line = tenant(daemon, BULK)
        return line if (line["wait_p99_ms"] or 0) >= 0.75 * longest and line["running"] == 0 else None

    line = eventually(told)
    assert line["wait_p99_ms"] <= 1.25 * longest + 500
    assert line["wait_p50_ms"] < 0.8 * line["wait_p99_ms"]
    assert line["share"] == 1


def test_one_at_once_is_strictly_serial_over_all_workers(celery_app, client, fairstalk, ledger):
    """With `max_concurrency` 1 each task ends before the next one begins, in order, while both workers have free slots."""
    fairstalk(workers={"processes": 2, "concurrency": 2, **NOW}, tenancy={**TENANCY, "max_concurrency": {"1": 1}})
    other = users(shares=True, count=1)[0]
    for n in range(40):
        send(ledger, BULK, 1, first=n, seconds=0.005)
        send(ledger, other, 1, first=n, seconds=0.05)
    ledger.wait("end", 80)
    wait_settled(client)
    lines = [(line["event"], line["n"]) for line in ledger.lines() if line["user"] == BULK]
    assert lines == [(event, n) for n in range(40) for event in ("start", "end")]
    assert most_at_once(ledger.lines(), other) > 1


def test_a_rate_counts_for_all_workers_together(celery_app, client, fairstalk, ledger):
    """Two starts a second over two workers; others are not held up, and the last start is never lost."""
    fairstalk(workers={"processes": 2, "concurrency": 2, **NOW}, tenancy={**TENANCY, "rate_limit": {"1": "2/s"}})
    other = users(shares=True, count=1)[0]
    send(ledger, BULK, 8)
    send(ledger, other, 30)
    ledger.wait("end", 38)
    lines = ledger.lines("start")
    assert ledger.numbers("start", BULK) == list(range(8))
    times = [line["time"] for line in lines if line["user"] == BULK]
    # Late starts are the machine's; what counts is that none are early: seven spaces of half a second.
    assert times[-1] - times[0] >= 3.5 - 0.4
    last = max(line["time"] for line in lines if line["user"] == other)
    assert sum(time > last for time in times) >= 3, "the others were not held up"


def test_reserved_slots_let_a_newcomer_start_at_once(celery_app, fairstalk, ledger):
    """Of four slots one is kept free; the newcomer's first task starts while the bulk tasks hold all others."""
    daemon = fairstalk(workers={"processes": 2, "concurrency": 2, **NOW}, tenancy={**TENANCY, "reserved_slots": 1})
    send(ledger, BULK, 10, seconds=300)
    ledger.wait("start", 3)
    newcomers = [*users(shares=True, count=1), *users(shares=False, count=1)]
    for n, user in enumerate(newcomers):
        send(ledger, user, 1)
        ledger.wait("end", n + 1)
    assert len(ledger.numbers("start", BULK)) == 3 and not ledger.numbers("end", BULK)
    assert tenant(daemon, BULK)["running"] == 3


def test_a_tenant_can_be_paused_under_load(celery_app, client, fairstalk, ledger):
    """What runs goes on, nothing more starts, others go on; resumed, it goes on where it was, in order."""
    daemon = fairstalk(workers={"processes": 2, "concurrency": 2, **NOW}, tenancy=TENANCY)
    other = users(shares=True, count=1)[0]
    send(ledger, BULK, MANY, seconds=0.1)
    ledger.wait("start", 10)
    done = daemon.call("pause", BULK)
    assert (done.returncode, done.stdout) == (0, "paused: 1\n")
    wait_settled(client)
    paused_at = len(ledger.numbers("start", BULK))
    assert paused_at < MANY
    send(ledger, other, 20)
    eventually(lambda: len(ledger.numbers("end", other)) == 20, timeout=30)
    assert len(ledger.numbers("start", BULK)) == paused_at
    line = tenant(daemon, BULK)
    assert (line["paused"], line["running"], line["waiting"]) == (True, 0, MANY - paused_at)
    assert explained(daemon, BULK)["verdict"].startswith("is paused")
    assert daemon.call("pause", BULK).stdout == "paused: 0; paused already: 1\n"
    assert daemon.call("resume", BULK).stdout == "resumed: 1\n"
    eventually(lambda: len(ledger.numbers("end", BULK)) == MANY, timeout=60)
    assert sorted(ledger.numbers("start", BULK)) == list(range(MANY))


def test_a_header_may_say_whose_a_task_is(celery_app, fairstalk, ledger):
    """The configured header counts, and the parameter where a message has no such header."""
    workers, queues = {"processes": 1, "concurrency": 1, **NOW}, {"names": ["queue_7"]}
    daemon = fairstalk(workers=workers, tenancy={"header": "customer"}, queues=queues)
    tasks.record.apply_async((1, 0, str(ledger), 60), queue="queue_7", headers={"customer": "acme"})
    ledger.wait("start", 1)
    for customer in ("acme", "zeta", None):
        tasks.record.apply_async((1, 1, str(ledger)), queue="queue_7", headers={"customer": customer})
    eventually(lambda: len(daemon.ask("tenants")) == 3)
    assert {line["tenant"]: line["waiting"] for line in daemon.ask("tenants")} == {"acme": 1, "zeta": 1, "1": 1}
    assert explained(daemon, "acme")["named_by"] == 'the header "customer", else the parameter "user_id", as [tenancy] says'


@pytest.mark.parametrize(
    ("fallback", "expected"),
    [
        ("queue", {"(queue_7)"}),
        ("group", {"(group g1)", "(queue_7)"}),
        ("root", {"(root r1)", "(root r2)"}),
    ],
)
def test_what_names_nobody_may_go_by_its_group_or_root(celery_app, fairstalk, ledger, fallback, expected):
    """Two workflows of nobody in one queue, one of them in a group."""
    tenancy = {**NOTHING, "fallback": fallback}
    daemon = fairstalk(workers={"processes": 1, "concurrency": 1, **NOW}, tenancy=tenancy, queues={"names": ["queue_7"]})
    tasks.record.apply_async((1, 0, str(ledger), 60), queue="queue_7", root_id="r1", group_id="g1")
    ledger.wait("start", 1)
    for n in range(2):
        tasks.record.apply_async((1, n, str(ledger)), queue="queue_7", root_id="r1", group_id="g1")
        tasks.record.apply_async((1, n, str(ledger)), queue="queue_7", root_id="r2")
    eventually(lambda: sum(line["waiting"] for line in daemon.ask("tenants")) == 4)
    assert {line["tenant"] for line in daemon.ask("tenants") if line["waiting"]} == expected


def test_whose_a_task_is_is_found_out(celery_app, client, fairstalk, ledger):
    """Nothing is configured. Once the first users have been seen, nobody waits behind the bulk job of another."""
    quiet = users(shares=True, count=6)
    # Each of the two workers learns by itself, and sees about half of them.
    others = users(shares=False, count=24)
    send(ledger, BULK, 2 * MANY, seconds=0.05)
    daemon = fairstalk(workers={"processes": 2, "concurrency": 2, **NOW}, tenancy=NOTHING)
    for user in others:
        send(ledger, user, 1)
    found = daemon.wait_log(r'found out that the parameter "user_id" says whose a task is').group()
    assert found and daemon.log().count("found out that") == 1, "told once, by one worker"
    assert "\nfairstalk_tenancy_lost 0\n" in daemon.call("metrics").stdout
    before = len(ledger.lines("start"))
    for user in quiet:
        send(ledger, user, 3)
    eventually(lambda: all(len(ledger.numbers("end", user)) == 3 for user in quiet), timeout=60)
    assert len(ledger.numbers("start", BULK)) < 2 * MANY, "the bulk job was over before anybody could wait behind it"
    starts = [line["user"] for line in ledger.lines("start")[before:]]
    # At equal shares: for each of the quiet ones' eighteen tasks one or two of the bulk job, and a few while they came.
    assert starts.index(quiet[-1]) < 60, starts
    why = explained(daemon, quiet[0])["named_by"]
    assert why.startswith('the parameter "user_id", found out: '), why
    assert 'named by the parameter "user_id", found out' in daemon.call("check").stdout
    # The next daemon knows it from the start.
    assert daemon.stop() in (0, 75)
    assert json.loads(client.hget(of_fleet("tenancy"), "answer"))["name"] == {"parameter": "user_id"}
    again = fairstalk(workers={"processes": 1, "concurrency": 1, **NOW}, tenancy=NOTHING)
    send(ledger, quiet[0], 3, seconds=60)
    eventually(lambda: (tenant(again, quiet[0]) or {}).get("waiting", 0) >= 1)
    assert "found out" not in again.log()


def test_order_is_kept_when_it_is_found_out(celery_app, client, fairstalk, ledger):
    """What waited under the queue's name goes before what came later of the same user."""
    each = 60
    both = [BULK, *users(shares=True, count=7)]
    daemon = fairstalk(workers={"processes": 2, "concurrency": 1, **NOW}, tenancy=NOTHING)
    for n in range(each):
        for user in both:
            send(ledger, user, 1, first=n, seconds=0.003)
    daemon.wait_log("found out that")
    ledger.wait("end", each * len(both), timeout=60)
    for user in both:
        numbers = ledger.numbers("start", user)
        assert sorted(numbers) == list(range(each))
        # Two slots: neighbours may reach the ledger the other way round.
        assert all(n >= place - 1 for place, n in enumerate(numbers)), (user, numbers)


def test_an_answer_that_was_left_halfway_comes_into_force(celery_app, client, fairstalk, ledger):
    """All processes of a daemon were killed while it put what waited back into the lists. The next one goes on with it."""
    send(ledger, BULK, MANY)
    send(ledger, BULK, 1, first=MANY, seconds=60)
    workers = {"processes": 1, "concurrency": 1, **NOW}
    daemon = fairstalk(workers=workers, tenancy=NOTHING)
    send(ledger, BULK, 2 * MANY, first=MANY + 1)
    ledger.wait("start", MANY + 1)
    eventually(lambda: sum(line["waiting"] for line in daemon.ask("tenants")) == 2 * MANY)
    daemon.clear_away()
    answer = {"name": {"parameter": "user_id"}, "before": None, "agreeing": 9, "disagreeing": 0}
    client.hset(of_fleet("tenancy"), "next", json.dumps(answer))
    client.hset(of_fleet("tenants"), "epoch", "0.5")
    again = fairstalk(workers=workers, tenancy=NOTHING)
    eventually(lambda: client.hget(of_fleet("tenancy"), "epoch") == b"1", timeout=60)
    assert not client.hexists(of_fleet("tenancy"), "next")
    assert explained(again, BULK)["named_by"].startswith('the parameter "user_id", found out: ')
    eventually(lambda: set(ledger.numbers("start")) == set(range(3 * MANY + 1)), timeout=60)


def test_a_deploy_that_changes_the_answer_is_noticed_once(celery_app, client, fairstalk, ledger):
    """Suddenly user ids come in queues that are not theirs: an alarm, and the queues stand for the tenants again."""
    daemon = fairstalk(workers={"processes": 2, "concurrency": 2, **NOW}, tenancy=NOTHING)
    for user in users(shares=False, count=12):
        send(ledger, user, 1)
    daemon.wait_log("found out that")
    wrong = [user for user in range(1000, 1600) if get_queue_for_user(user) != "queue_3"]
    for user in wrong:
        tasks.noop.apply_async((user,), queue="queue_3")
    daemon.wait_log(r'the parameter "user_id" no longer says whose a task is')
    wait_settled(client)
    eventually(lambda: client.llen("queue_3") == 0)
    assert daemon.log().count("no longer says") == 1
    assert "\nfairstalk_tenancy_lost 1\n" in daemon.call("metrics").stdout
    [status] = daemon.ask("status")
    assert status["tenancy"]["lost"] and "until" in status["tenancy"]["named_by"]
    assert 'whose a task is says its queue: the parameter "user_id" did say it' in daemon.call("status").stdout
    assert explained(daemon, 1)["named_by"].startswith('its queue: the parameter "user_id" did say it, until ')
