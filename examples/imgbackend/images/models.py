"""What is remembered of a click and of each image it asked for.

Times are seconds since the epoch as floats, because what is asked of them is always a difference:
how long did this user wait.
"""
from django.db import models


class Job(models.Model):
    """One click of one user: every product of a collection with every chosen prompt."""

    user_id = models.BigIntegerField(null=True, db_index=True)
    collection_id = models.BigIntegerField()
    queue = models.CharField(max_length=64)
    created_at = models.FloatField(help_text="when the user clicked")
    group_id = models.CharField(max_length=64, blank=True, help_text="Celery group of the job's tasks")
    task_count = models.PositiveIntegerField()


class Image(models.Model):
    """One image. The row appears when its task starts for the first time; `finished_at` is set when the file exists."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="images")
    product_index = models.PositiveIntegerField()
    prompt_key = models.SlugField(max_length=64)
    started_at = models.FloatField(help_text="first line of the first attempt")
    finished_at = models.FloatField(null=True)
    attempts = models.PositiveIntegerField(default=1, help_text="how often the task was started, for whatever reason")
    retries = models.PositiveIntegerField(default=0, help_text="Celery's count of retries at the end")
    worker_pid = models.PositiveIntegerField()
    path = models.CharField(max_length=255, blank=True, help_text="relative to the media folder")

    class Meta:
        """A task that is delivered twice finds its own row again."""

        constraints = [
            models.UniqueConstraint(fields=["job", "product_index", "prompt_key"], name="one_row_per_image"),
        ]
