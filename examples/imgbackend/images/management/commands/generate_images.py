"""`manage.py generate_images --user 7 --products 5 --prompts studio,beach [--wait]`: a click from the command line."""
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from images.jobs import group_of, progress, start_job


class Command(BaseCommand):
    """Starts a job; with `--wait` also waits for it and reports each image."""

    help = "Make one image per product and prompt on the queue of a user."

    def add_arguments(self, parser):
        """The parts of an order."""
        parser.add_argument("--user", type=int, help="user id; without it the default queue is used")
        parser.add_argument("--collection", type=int, default=1)
        parser.add_argument("--products", type=int, default=1)
        parser.add_argument("--prompts", default="studio", help="comma-separated")
        parser.add_argument("--wait", action="store_true", help="until every image is made")
        parser.add_argument("--timeout", type=float, default=300.0, help="longest wait in seconds")

    def handle(self, *args, **options):
        """Fan out, and wait if asked to."""
        prompts = [prompt for prompt in options["prompts"].split(",") if prompt]
        try:
            job = start_job(options["user"], options["collection"], options["products"], prompts)
        except ValidationError as error:
            raise CommandError(f"--prompts: {' '.join(error.messages)}") from error
        self.stdout.write(f"job {job.pk}: {job.task_count} tasks in {job.queue}, group {job.group_id}")
        if not options["wait"]:
            return
        group_of(job).join(timeout=options["timeout"], propagate=False)
        state = progress(job)
        for path in state["images"]:
            self.stdout.write(path)
        self.stdout.write(f"{state['completed']} of {state['total']} images made")
        if state["completed"] < state["total"]:
            raise CommandError(f"{state['failed']} tasks failed")
