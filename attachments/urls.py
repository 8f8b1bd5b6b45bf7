from __future__ import annotations

from django.urls import path

from attachments import views

app_name = "attachments"
urlpatterns = [
    path("", views.upload, name="upload"),
    path("<int:pk>/", views.content, name="content"),
]
