#!/usr/bin/env python3
"""One user floods the queues with images, a dozen others click now and then: who waits how long?

    examples/demo.py                    the example application under fairstalk (target/release/fairstalk)
    examples/demo.py --worker celery    the same under a stock `celery worker`, for comparison

Everything is real: a private Redis, Celery as the producer, Django's database, images on disk. Run it with the Python
of target/venv, which tests/setup.sh makes. Of what it makes, only the images are kept.
"""
import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "examples" / "imgbackend")]

from harness import PROJECT, example_app  # noqa: E402
from harness.daemon import Fairstalk, base_config, clean_environment, merged  # noqa: E402
from harness.processes import ProcessUnderTest  # noqa: E402
from harness.redis_server import RedisServer  # noqa: E402

DATA = ROOT / "target" / "demo"
BULK_USER = 1
SHARING = 2
CLICKS = 3
PROCESSES, SLOTS = 2, 4
LATENCY = 0.1
DEADLINE = 170.0


class Click(NamedTuple):
    """A quiet user's click to come: `at` seconds after the bulk job was enqueued."""

    at: float
    user: int
    images: int


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="Fairness on show: one bulk user and a dozen quiet ones.")
    parser.add_argument("--worker", choices=["fairstalk", "celery"], default="fairstalk")
    parser.add_argument("--bulk", type=int, default=2000, help="images of the bulk user (default 2000)")
    parser.add_argument("--quiet", type=int, default=12, help="quiet users (default 12)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments at which they click")
    parser.add_argument("--program", type=Path, default=ROOT / "target" / "release" / "fairstalk")
    return parser.parse_args()


def choose_quiet_users(count):
    """The first user ids after the bulk user's, of which `SHARING` hash to the bulk user's queue."""
    from imgbackend.routing import queue_of

    sharing, others = [], []
    user = BULK_USER
    while len(sharing) < min(SHARING, count) or len(others) < count - SHARING:
        user += 1
        (sharing if queue_of(user) == queue_of(BULK_USER) else others).append(user)
    return sorted(sharing[:SHARING] + others[: max(0, count - SHARING)])


def plan_clicks(users, bulk, seed):
    """When who clicks, all of it while the bulk job is likely to run."""
    dice = random.Random(seed)
    window = 0.8 * bulk * LATENCY / (PROCESSES * SLOTS)
    return sorted(Click(dice.uniform(0, window), user, dice.randint(1, 4)) for user in users for _ in range(CLICKS))


@contextmanager
def fairstalk(redis, env, directory, program):
    """The daemon, ready inside the block."""
    overrides = {
        "workers": {"processes": PROCESSES, "concurrency": SLOTS},
        "tenancy": {"parameter": "user_id"},
    }
    daemon = Fairstalk(directory, merged(base_config(redis.url, env), overrides), program=program)
    try:
        yield daemon.wait_ready()
    finally:
        daemon.close()


@contextmanager
def stock_celery(redis, env, directory, program):
    """A stock worker with as many processes as fairstalk has slots."""
    command = [*example_app.celery_command(), "worker", "--loglevel", "INFO", "-c", str(PROCESSES * SLOTS)]
    worker = ProcessUnderTest(command, directory / "celery.log", clean_environment(**env), PROJECT)
    try:
        worker.wait_log(r"celery@\S+ ready\.$", timeout=60)
        yield worker
    finally:
        worker.clear_away()


def percentile(values, share):
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


class Progress:
    """One line that tells how things stand: rewritten in place on a terminal, every two seconds elsewhere."""

    def __init__(self, expected, bulk_job):
        self.expected = expected
        self.bulk_job = bulk_job
        self.begin = time.monotonic()
        self.every = 0.25 if sys.stdout.isatty() else 2.0
        self.next = 0.0
        self.history = []

    def show(self, done):
        """Say it if it is time to, or if this is the end."""
        now = time.monotonic()
        if now < self.next and done < self.expected:
            return
        self.next = now + self.every
        self.history = [(then, count) for then, count in self.history if now - then <= 3.0] + [(now, done)]
        since, before = self.history[0]
        rate = f"{(done - before) / (now - since):4.0f}" if now - since > 0.2 else "   –"
        line = f"{now - self.begin:5.1f} s  done {done}/{self.expected}  {rate} tasks/s  {self.waits()}"
        if sys.stdout.isatty():
            print(f"\r\033[K{line}", end="\n" if done >= self.expected else "", flush=True)
        else:
            print(line, flush=True)

    def waits(self):
        """What is left of the bulk job, and how the quiet users fare."""
        from django.db.models import F, Min
        from images.models import Image, Job

        left = self.bulk_job.task_count - self.bulk_job.images.filter(finished_at__isnull=False).count()
        text = f"bulk left {left}"
        quiet = Image.objects.exclude(job=self.bulk_job)
        last = quiet.order_by("-started_at").values("job__user_id", wait=F("started_at") - F("job__created_at")).first()
        if last is not None:
            text += f"  last wait of a quiet user {last['wait']:.2f} s (user {last['job__user_id']})"
        waiting = Job.objects.filter(images__isnull=True).aggregate(since=Min("created_at"))["since"]
        if waiting is not None:
            text += f"  a click waits since {time.time() - waiting:.1f} s"
        return text


def run(clicks, bulk):
    """Enqueue the bulk job, let the others click, and return once every image is there. Celery does the sending."""
    from images.jobs import start_job
    from images.models import Image

    begin = time.monotonic()
    bulk_job = start_job(BULK_USER, 1, bulk, ["studio"])
    print(f"user {BULK_USER} asked for {bulk} images, enqueued in {time.monotonic() - begin:.1f} s", flush=True)
    expected = bulk + sum(click.images for click in clicks)
    progress = Progress(expected, bulk_job)
    to_come = list(clicks)
    done = 0
    while done < expected:
        elapsed = time.monotonic() - progress.begin
        if elapsed > DEADLINE:
            raise AssertionError(f"{expected - done} of {expected} images were not made within {DEADLINE:g} s")
        while to_come and to_come[0].at <= elapsed:
            click = to_come.pop(0)
            start_job(click.user, click.user, click.images, ["beach"])
        done = Image.objects.filter(finished_at__isnull=False).count()
        progress.show(done)
        next_click = to_come[0].at - elapsed if to_come else 1.0
        time.sleep(max(0.0, min(next_click, 0.1)))
    return expected


def report():
    """A table with one line per user, and a summary of the quiet ones. The wait is counted from the user's click."""
    from images.jobs import group_of
    from images.models import Image, Job
    from imgbackend.routing import queue_of

    print(f"\n{'user':>6}  {'queue':<10}{'tasks':>6}{'wait p50':>12}{'wait p99':>12}{'retries':>9}{'failures':>10}")
    quiet, sharing = [], []
    for user in sorted(set(Job.objects.values_list("user_id", flat=True))):
        jobs = list(Job.objects.filter(user_id=user))
        images = Image.objects.filter(job__user_id=user).select_related("job")
        waits = [image.started_at - image.job.created_at for image in images]
        failures = sum(task.failed() for job in jobs for task in group_of(job).results)
        shares = queue_of(user) == queue_of(BULK_USER)
        note = "  bulk" if user == BULK_USER else "  shares the bulk user's queue" if shares else ""
        print(
            f"{user:>6}  {jobs[0].queue:<10}{sum(job.task_count for job in jobs):>6}"
            f"{percentile(waits, 0.5):>10.3f} s{percentile(waits, 0.99):>10.3f} s"
            f"{sum(image.retries for image in images):>9}{failures:>10}{note}"
        )
        if user != BULK_USER:
            (sharing if shares else quiet).extend(waits)
    print()
    for waits, where in ((quiet, "in other queues"), (sharing, "in the bulk user's queue")):
        if waits:
            print(f"quiet users {where}: wait p50 {percentile(waits, 0.5):.3f} s, longest {max(waits):.3f} s")


def count_images(expected):
    """Compare what is on disk with what was asked for."""
    files = sorted((DATA / "media").rglob("*.png"))
    print(f"images on disk: {len(files)} of {expected} expected, kept in {DATA / 'media'}")
    if files:
        print(f"for example: {random.Random(0).choice(files)}")
    return len(files) == expected


def demo(options, directory):
    """The whole run. Returns whether everything was as it should be."""
    with RedisServer() as redis:
        env = example_app.environment(redis, DATA, IMGBACKEND_FAIL_FIRST="0.05", IMGBACKEND_LATENCY=str(LATENCY))
        app = example_app.load()
        example_app.connect(app, env)
        try:
            example_app.migrate()
            users = choose_quiet_users(options.quiet)
            clicks = plan_clicks(users, options.bulk, options.seed)
            print(f"{options.worker}: {PROCESSES * SLOTS} slots; {len(users)} quiet users click {CLICKS} times each;")
            print(f"each image waits {LATENCY:g} s for its image model, 5 % fail at the first try and are retried")
            print(f"({min(SHARING, len(users))} of the quiet users were picked because they share the bulk user's queue)\n")
            start = fairstalk if options.worker == "fairstalk" else stock_celery
            with start(redis, env, directory, options.program) as worker:
                try:
                    expected = run(clicks, options.bulk)
                except AssertionError:
                    print("\nlast lines of the log:", *worker.log().splitlines()[-20:], sep="\n")
                    raise
                report()
                complete = count_images(expected)
                code = worker.stop()
                print(f"{options.worker} stopped (SIGTERM), exit code {code}")
            return complete and code == 0
        finally:
            example_app.disconnect(app)


def main():
    """Prepare, run, clean up; the exit code says whether all images were made and the worker ended cleanly."""
    options = arguments()
    if options.worker == "fairstalk" and not options.program.exists():
        sys.exit(f"{options.program} is not there: run `cargo build --release` first, or use --worker celery")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(parents=True)
    directory = Path(tempfile.mkdtemp(prefix="fairstalk-demo-"))
    try:
        sys.exit(0 if demo(options, directory) else 1)
    except KeyboardInterrupt:
        sys.exit("\ninterrupted")
    except AssertionError as problem:
        sys.exit(f"demo: {problem}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        for file in DATA.glob("db.sqlite3*"):
            file.unlink()


if __name__ == "__main__":
    main()
