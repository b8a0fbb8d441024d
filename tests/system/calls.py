"""What the example application's web process does, inside a container: it sends tasks and reads results with Celery.

    calls.py FUNCTION [JSON ARGUMENT …]     prints what the function returns, as JSON
"""
import json
import select
import sys

import django


def send(name, *args, **options):
    """Send a task of `bench.tasks`; its id."""
    from bench import tasks

    return getattr(tasks, name).apply_async(args, **options).id


def send_later(seconds, name, *args):
    """The same, to be run after so many seconds."""
    return send(name, *args, countdown=seconds)


def send_records(path, count, seconds, queue=None):
    """Send `record` tasks with the numbers from 0 on, each for another user, to his queue or all to one; their ids."""
    from bench import tasks
    from imgbackend.routing import queue_of

    return [tasks.record.apply_async((n, n, path, seconds), queue=queue or queue_of(n)).id for n in range(count)]


def send_until_closed(path, seconds, every):
    """Send one `record` task after the other, until standard input is closed; their ids."""
    from bench import tasks
    from imgbackend.routing import queue_of

    ids = []
    while not select.select([sys.stdin], [], [], every)[0]:
        n = len(ids)
        ids.append(tasks.record.apply_async((n, n, path, seconds), queue=queue_of(n)).id)
    return ids


def results(ids):
    """Wait for the results of these tasks; an exception is the name of its class."""
    from imgbackend.celery import app

    def result(task_id):
        value = app.AsyncResult(task_id).get(timeout=90, propagate=False)
        return type(value).__name__ if isinstance(value, Exception) else value

    return [result(task_id) for task_id in ids]


def make_images(user, products):
    """A user's click, answered by Django's models: the paths of the images, once all are there."""
    from images.jobs import group_of, start_job

    job = start_job(user, 1, products, ["studio"])
    group_of(job).get(timeout=90)
    return sorted(image.path for image in job.images.filter(finished_at__isnull=False))


def main():
    """Set Django up as a web process does and call the function."""
    sys.path.insert(0, "/srv/imgbackend")
    django.setup()
    name, *arguments = sys.argv[1:]
    print(json.dumps(globals()[name](*map(json.loads, arguments))))


if __name__ == "__main__":
    main()
