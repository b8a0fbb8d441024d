"""The task that makes one image."""
import os
import time
from hashlib import md5
from pathlib import Path

from celery import shared_task
from django.conf import settings
from django.db.models import F

from .models import Image
from .render import render_to


class ImageModelBusy(Exception):
    """The image model refused a call; another try usually works."""


def fails_first(job_id, product_index, prompt_key, share):
    """Whether the first try of this image fails. Decided by its names, so that two runs fail alike."""
    digest = md5(f"{job_id}/{product_index}/{prompt_key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


@shared_task(bind=True, autoretry_for=(Exception,), retry_backoff=True, max_retries=3)
def generate_single_image_task(self, job_id, collection_id, user_id, product_index, prompt_key):
    """Make exactly one image: one file in the media folder and one row in the database.

    It may be delivered twice (its worker can be killed at any line) and then ends with the same file and
    the same row. `started_at` is that of the first attempt: what the user waited for.
    """
    started_at = time.time()
    name = {"job_id": job_id, "product_index": product_index, "prompt_key": prompt_key}
    _, first = Image.objects.get_or_create(**name, defaults={"started_at": started_at, "worker_pid": os.getpid()})
    row = Image.objects.filter(**name)
    if not first:
        row.update(attempts=F("attempts") + 1)
    if self.request.retries == 0 and fails_first(job_id, product_index, prompt_key, settings.IMAGE_FAIL_FIRST):
        raise ImageModelBusy(f"no capacity for product {product_index}")
    time.sleep(settings.IMAGE_LATENCY)
    path = f"{collection_id}/{job_id}/{product_index}-{prompt_key}.png"
    render_to(Path(settings.MEDIA_ROOT) / path, product_index, prompt_key)
    row.update(finished_at=time.time(), retries=self.request.retries, worker_pid=os.getpid(), path=path)
    return {"user": user_id, "path": path}
