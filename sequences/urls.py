from __future__ import annotations

from django.urls import path

from sequences import views

app_name = "sequences"
urlpatterns = [
    path("", views.sequence_list, name="list"),
    path("new/", views.create, name="create"),
    path("others/", views.others, name="others"),
    path("<int:pk>/", views.detail, name="detail"),
    path("<int:pk>/edit/", views.edit, name="edit"),
    path("<int:pk>/activate/", views.activate, name="activate"),
    path("<int:pk>/pause/", views.pause, name="pause"),
]
