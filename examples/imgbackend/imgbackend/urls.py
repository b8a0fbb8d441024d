"""URLs of the project."""
from django.urls import include, path

urlpatterns = [path("jobs/", include("images.urls"))]
