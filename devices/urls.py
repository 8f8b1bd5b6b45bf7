from __future__ import annotations

from django.urls import path

from devices import pairing_views, views

app_name = "devices"
urlpatterns = [
    path("", views.device_list, name="list"),
    path("new/", views.new, name="new"),
    path("phone/", views.phone, name="phone"),
    path("<int:pk>/", views.detail, name="detail"),
    path("<int:pk>/switch/", views.switch, name="switch"),
    path("<int:pk>/works-again/", views.works_again, name="works_again"),
    path("<int:pk>/edit/", views.edit, name="edit"),
    path("<int:pk>/delete/", views.delete, name="delete"),
    path("<int:pk>/pair/", pairing_views.pair, name="pair"),
    path("<int:pk>/pair/cancel/", pairing_views.cancel_pairing, name="cancel_pairing"),
    path("<int:pk>/log-out/", pairing_views.log_out, name="log_out"),
]
