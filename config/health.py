"""What a load balancer and a monitor ask: is the process up, and is the installation at work."""

from __future__ import annotations

import logging

from django.contrib.auth.decorators import login_not_required
from django.db import Error as DatabaseError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from broadcasts import schedules
from broadcasts.models import Worker

logger = logging.getLogger(__name__)

# A migration, once applied, stays applied while this code runs: ask until the answer is yes.
_migrated = False


@login_not_required
@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """The process answers. It asks nothing of the database: a restart would not mend that."""
    return HttpResponse("ok\n", content_type="text/plain")


@login_not_required
@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Each part in words; 503 where the pages cannot work: no database, or an old schema.

    A scheduler or broadcaster that is missing is told and leaves the status at 200: the pages
    work, and are where an operator sees it. Taking the web out of service would hide that.
    """
    parts = dict.fromkeys(["database", "migrations", "scheduler", "broadcasters"], "not asked")
    try:
        parts["migrations"] = _migrations()
        if parts["migrations"] == "ok":
            parts["scheduler"] = _scheduler()
            parts["broadcasters"] = _broadcasters()
        parts["database"] = "ok"
    except DatabaseError as error:
        # The driver's words name the host and the user: they are for the log.
        logger.warning("The database does not answer: %s", error)
        parts["database"] = "does not answer"
    ready = parts["database"] == parts["migrations"] == "ok"
    working = all(answer == "ok" for answer in parts.values())
    return JsonResponse({"ready": ready, "working": working, **parts}, status=200 if ready else 503)


def _migrations() -> str:
    global _migrated
    if not _migrated:
        executor = MigrationExecutor(connection)
        waiting = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
        if waiting:
            return f"{waiting} not applied: run manage.py migrate"
        _migrated = True
    return "ok"


def _scheduler() -> str:
    found = schedules.scheduler()
    if not found.schedules:
        return "no schedules: run manage.py migrate"
    if found.late:
        return f"{found.late} schedules are late: run manage.py qcluster, or read its log"
    return "ok"


def _broadcasters() -> str:
    return "ok" if Worker.objects.alive().exists() else "none alive: run manage.py runbroadcaster"
