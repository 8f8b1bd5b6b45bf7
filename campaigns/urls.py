from __future__ import annotations

from django.urls import path

from campaigns import actions, composing, views

app_name = "campaigns"
urlpatterns = [
    path("", views.campaign_list, name="list"),
    path("new/", composing.create, name="create"),
    path("preview/", composing.live_preview, name="preview"),
    path("<int:pk>/", views.detail, name="detail"),
    path("<int:pk>/row/", views.row, name="row"),
    path("<int:pk>/progress/", views.progress, name="progress"),
    path("<int:pk>/activity/", views.activity, name="activity"),
    path("<int:pk>/recipients/", views.recipients, name="recipients"),
    path("<int:pk>/recipients.csv", views.export, name="export"),
    path("<int:pk>/edit/", composing.edit, name="edit"),
    path("<int:pk>/review/", composing.review, name="review"),
    path("<int:pk>/discard/", actions.discard, name="discard"),
    path("<int:pk>/clone/", composing.clone, name="clone"),
    path("<int:pk>/pause/", actions.pause, name="pause"),
    path("<int:pk>/resume/", actions.resume, name="resume"),
    path("<int:pk>/cancel/", actions.cancel, name="cancel"),
    path("<int:pk>/unschedule/", actions.unschedule, name="unschedule"),
    path("<int:pk>/retry/", actions.retry, name="retry"),
    path("<int:pk>/reschedule/", actions.reschedule, name="reschedule"),
]
