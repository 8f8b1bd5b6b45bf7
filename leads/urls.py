from __future__ import annotations

from django.urls import path

from leads import views

app_name = "leads"
urlpatterns = [
    path("", views.lead_list, name="list"),
    path("upload/", views.upload, name="upload"),
    path("upload/review/", views.review, name="review"),
    path("upload/refused.csv", views.refused, name="refused"),
    path("upload/import/", views.import_upload, name="import"),
    path("upload/discard/", views.discard, name="discard"),
    path("<int:pk>/", views.detail, name="detail"),
    path("<int:pk>/opt-out/", views.opt_out, name="opt_out"),
    path("<int:pk>/ask-again/", views.ask_again, name="ask_again"),
]
