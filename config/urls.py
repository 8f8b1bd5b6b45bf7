from __future__ import annotations

from django.contrib import admin
from django.contrib.auth import views as auth_views
from django.urls import include, path

from config.health import healthz, readyz
from config.overview import overview

urlpatterns = [
    path("", overview, name="overview"),
    path("campaigns/", include("campaigns.urls")),
    path("sequences/", include("sequences.urls")),
    path("leads/", include("leads.urls")),
    path("messages/", include("broadcasts.urls")),
    path("attachments/", include("attachments.urls")),
    path("devices/", include("devices.urls")),
    path("sign-in/", auth_views.LoginView.as_view(), name="login"),
    path("sign-out/", auth_views.LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
]
