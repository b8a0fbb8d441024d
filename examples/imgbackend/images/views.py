"""The two requests of the front end: start a job, look at it.

Who the user is comes from the request body, because an example has no log-in.
"""
import json

from django.core.exceptions import ValidationError
from django.http import JsonResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from .jobs import progress, start_job
from .models import Job

MAX_PRODUCTS = 10_000


@require_POST
def create_job(request):
    """`{"user": 7, "collection": 3, "products": 5, "prompts": ["studio", "beach"]}` starts ten images."""
    try:
        order = json.loads(request.body)
        user = order["user"]
        user_id = None if user is None else int(user)
        collection_id = int(order.get("collection", 1))
        products = int(order["products"])
        prompts = [str(prompt) for prompt in order["prompts"]]
        if not 1 <= products <= MAX_PRODUCTS or not prompts:
            raise ValueError(f"products must be 1 to {MAX_PRODUCTS}, with at least one prompt")
        job = start_job(user_id, collection_id, products, prompts)
    except KeyError as missing:
        return JsonResponse({"error": f"{missing} is missing"}, status=400)
    except (TypeError, ValueError, AttributeError, ValidationError) as error:
        return JsonResponse({"error": str(error)}, status=400)
    answer = {"job": job.pk, "queue": job.queue, "group": job.group_id, "total": job.task_count}
    return JsonResponse(answer, status=201, headers={"Location": reverse("job", args=[job.pk])})


@require_GET
def read_job(request, job_id):
    """Progress of a job and the images it has made so far."""
    return JsonResponse(progress(get_object_or_404(Job, pk=job_id)))
