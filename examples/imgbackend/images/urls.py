"""URLs below `/jobs/`."""
from django.urls import path

from . import views

urlpatterns = [
    path("", views.create_job, name="jobs"),
    path("<int:job_id>/", views.read_job, name="job"),
]
