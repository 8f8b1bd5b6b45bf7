"""Settings, read top-down; the only reader of the environment.

Every variable is documented in `.env.example` and in the README's table.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION = "0.1.0"

env = environ.Env()
environ.Env.read_env(BASE_DIR / ".env")


def secret(name: str) -> str:
    """Returns NAME from the environment, or the content of the file that NAME_FILE names."""
    if path := env.str(f"{name}_FILE", ""):
        return Path(path).read_text().strip()
    return str(env.str(name, ""))


# The building

DEBUG = env.bool("DEBUG", False)
SECRET_KEY = secret("SECRET_KEY")
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "Set SECRET_KEY, or SECRET_KEY_FILE to a file that holds it. To make one: "
        "python -c 'import secrets; print(secrets.token_urlsafe(50))'"
    )

INSTALLED_APPS = [
    "config",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "csp",
    "django_htmx",
    "django_q",
    "attachments",
    "leads",
    "devices",
    "broadcasts",
    "campaigns",
    "sequences",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "broadcasts.context.system",
            ],
        },
    }
]

# Where people reach it. SITE_URL alone decides about hosts, TLS and cookies.

SITE_URL = env.str("SITE_URL", "http://127.0.0.1:8000")
_site = urlsplit(SITE_URL)
if _site.scheme not in ("http", "https") or not _site.hostname:
    raise ImproperlyConfigured(f"SITE_URL is {SITE_URL!r}; write it like https://siaran.example")
_LOOPBACK = ["127.0.0.1", "localhost", "[::1]"]
ALLOWED_HOSTS = env.list(
    "ALLOWED_HOSTS", default=_LOOPBACK if _site.hostname in _LOOPBACK else [_site.hostname]
)
CSRF_TRUSTED_ORIGINS = env.list(
    "CSRF_TRUSTED_ORIGINS", default=[f"{_site.scheme}://{_site.netloc}"]
)
if _site.scheme == "https":
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", 31_536_000)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
CSRF_FAILURE_VIEW = "config.refusals.csrf_failure"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "media-src": [SELF],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

# The database: SQLite for one host, MySQL 5.7+ or MariaDB 10.2+ for a team.

DATABASES = {"default": env.db("DATABASE_URL", f"sqlite:///{BASE_DIR / 'var' / 'siaran.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 30,
        # A write lock taken at BEGIN: a transaction that reads first and writes later would
        # fail with "database is locked" at once, without waiting for the timeout.
        "transaction_mode": "IMMEDIATE",
        # FULL, not NORMAL: a claim lost in a power cut would be a message sent twice.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
    # A file, so that the tests' other processes and threads see the same database.
    DATABASES["default"]["TEST"] = {
        "NAME": env.str("SIARAN_TEST_DB", str(BASE_DIR / "var" / "test.sqlite3"))
    }
elif DATABASES["default"]["ENGINE"] == "django.db.backends.mysql":
    DATABASES["default"]["ENGINE"] = "config.mysql"
    DATABASES["default"]["OPTIONS"] = {
        "charset": "utf8mb4",
        "isolation_level": "read committed",
        "connect_timeout": 10,
        # A lock that somebody's stalled process holds is waited for briefly, then tried again.
        "init_command": "SET SESSION time_zone='+00:00', innodb_lock_wait_timeout=10, "
        "sql_mode='STRICT_TRANS_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,"
        "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
    }
    DATABASES["default"]["TEST"] = {"CHARSET": "utf8mb4"}
    DATABASES["default"]["CONN_MAX_AGE"] = env.int("CONN_MAX_AGE", 60)
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True

# django-q2 gives one of its indexes a condition; MySQL makes it without.
SILENCED_SYSTEM_CHECKS = ["models.W037"]

# Time and language. The database holds UTC; people read TIME_ZONE.

USE_TZ = True
TIME_ZONE = env.str("TIME_ZONE", "Asia/Kuala_Lumpur")
USE_I18N = True
LANGUAGE_CODE = env.str("LANGUAGE_CODE", "en")
LANGUAGES = [("en", "English")]
USE_THOUSAND_SEPARATOR = True

# Files

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / env.str("STATIC_DIR", "var/static")
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}

# Signing in

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "overview"
LOGOUT_REDIRECT_URL = "login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# The scheduler: django-q2, the database as its broker. Each task is short and idempotent, so
# `max_attempts` 1 loses nothing: the next minute's run takes up what a dead one left.

Q_CLUSTER = {
    "name": "siaran",
    "orm": "default",
    "workers": env.int("SCHEDULER_WORKERS", 2),
    "poll": 0.5,
    "timeout": 120,
    "retry": 180,
    "max_attempts": 1,
    "ack_failures": True,
    "catch_up": False,
    "save_limit": 1000,
    "label": "Scheduler",
}

# The engine

PHONE_REGION = env.str("PHONE_REGION", "MY")
LEASE_SECONDS = env.int("LEASE_SECONDS", 30)
HEARTBEAT_SECONDS = env.int("HEARTBEAT_SECONDS", 10)
STUCK_AFTER = timedelta(minutes=env.int("STUCK_AFTER_MINUTES", 5))
# A broadcaster that holds more than this gives its devices back and begins anew, at the earliest
# after so long: 200 linked devices hold about 600 files and 250 MB, and neonize leaks both.
RECYCLE_FILES = env.int("RECYCLE_FILES", 2000)
RECYCLE_MEGABYTES = env.int("RECYCLE_MEGABYTES", 1000)
RECYCLE_AFTER = timedelta(minutes=env.float("RECYCLE_AFTER_MINUTES", 10))
RECOVERY_WINDOW = timedelta(hours=env.float("RECOVERY_WINDOW_HOURS", 3))
# How devices reach WhatsApp: names, and the classes that are created without arguments when a
# broadcaster first opens such a device. Others may add theirs: see docs/transports.md.
OUR_TRANSPORTS = {
    "simulator": "devices.transports.simulator.SimulatorTransport",
    "neonize": "devices.transports.neonize.NeonizeTransport",
}
EXTRA_TRANSPORTS = env.list("EXTRA_TRANSPORTS", default=[])
TRANSPORTS = {
    name: path for name, _, path in (entry.partition("=") for entry in EXTRA_TRANSPORTS)
} | OUR_TRANSPORTS
# The keys of linked WhatsApp accounts, a file each; on this host only, and for nobody else to read.
SESSION_DIR = BASE_DIR / env.str("SESSION_DIR", "var/sessions")
# Simulated devices may run faster than the clock, for demos and tests; real ones never do.
SIMULATOR_SPEED = env.float("SIMULATOR_SPEED", 1.0)
SIMULATOR_SEED = env.str("SIMULATOR_SEED", "siaran")

# Logs go to standard output: lines for people, or JSON on request.

LOG_FORMAT = env.str("LOG_FORMAT", "text")
if LOG_FORMAT not in ("text", "json"):
    raise ImproperlyConfigured(f"LOG_FORMAT is {LOG_FORMAT!r}; it is text or json.")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "text": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"},
        "json": {"()": "config.logs.JsonFormatter"},
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    # Refusals and missing pages are answers, not incidents: no traceback for each.
    "loggers": {"django.request": {"level": "ERROR"}},
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", "INFO")},
}
