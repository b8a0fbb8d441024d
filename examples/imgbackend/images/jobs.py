"""From a click to a group of tasks, and back from the group to its progress."""
import time

from celery import group
from celery.result import GroupResult
from django.core.validators import validate_slug

from imgbackend.routing import queue_of

from .models import Job
from .tasks import generate_single_image_task


def start_job(user_id, collection_id, products, prompts):
    """Fan one click out: one task per product and prompt, all on the user's queue, as one Celery group.

    The group is saved in the result backend, so that any other process can read its progress by the id kept in the job.
    """
    clicked_at = time.time()
    for prompt in prompts:
        validate_slug(prompt)
    queue = queue_of(user_id)
    job = Job.objects.create(
        user_id=user_id,
        collection_id=collection_id,
        queue=queue,
        created_at=clicked_at,
        task_count=products * len(prompts),
    )
    result = group(
        generate_single_image_task.s(job.pk, collection_id, user_id, product, prompt).set(queue=queue)
        for product in range(products)
        for prompt in prompts
    ).apply_async()
    result.save()
    job.group_id = result.id
    job.save(update_fields=["group_id"])
    return job


def group_of(job):
    """The Celery group of a job, read back from the result backend; None once the backend has let it expire."""
    return GroupResult.restore(job.group_id)


def progress(job):
    """How far a job is, and what it has made so far."""
    tasks = group_of(job)
    done = [] if tasks is None else [task for task in tasks.results if task.ready()]
    return {
        "job": job.pk,
        "user": job.user_id,
        "queue": job.queue,
        "group": job.group_id,
        "total": job.task_count,
        "completed": 0 if tasks is None else tasks.completed_count(),
        "failed": sum(task.failed() for task in done),
        "images": [task.result["path"] for task in done if task.successful()],
    }
