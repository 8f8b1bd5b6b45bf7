from __future__ import annotations

from django.urls import path

from broadcasts import views

app_name = "messages"
urlpatterns = [
    path("", views.message_list, name="list"),
    path("<int:pk>/", views.detail, name="detail"),
    path("<int:pk>/arrived/", views.arrived, name="arrived"),
    path("<int:pk>/send-again/", views.send_again, name="send_again"),
    path("<int:pk>/not-arrived/", views.not_arrived, name="not_arrived"),
    path("<int:pk>/retry/", views.retry, name="retry"),
    path("<int:pk>/ask-again/", views.ask_again, name="ask_again"),
    path("<int:pk>/reschedule/", views.reschedule, name="reschedule"),
]
