import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

# On the server receiver says so, and what `receiver env` keeps is in the environment.
DEPLOYED = "RECEIVER_APP" in os.environ
DEBUG = not DEPLOYED
SECRET_KEY = os.environ.get("SECRET_KEY", "on the laptop only")
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost").split()

# nginx says so, whatever the browser wrote: a page that came by https is known to have done so.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.staticfiles", "notes"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
ROOT_URLCONF = "website.urls"
WSGI_APPLICATION = "website.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

# `collectstatic` brings them there, and nginx serves them: `static` in receiver.toml.
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "collected"

# The database of this version, as receiver names it; on the laptop a file of one's own.
DATABASES = {
    "default": {
        "ENGINE": {
            "sqlite": "django.db.backends.sqlite3",
            "mysql": "django.db.backends.mysql",  # MariaDB, too
            "postgres": "django.db.backends.postgresql",
        }[os.environ.get("RECEIVER_DATABASE_ENGINE", "sqlite")],
        "NAME": os.environ.get("RECEIVER_DATABASE_NAME", BASE_DIR / "db.sqlite3"),
        # SQLite has none of these.
        "USER": os.environ.get("RECEIVER_DATABASE_USER", ""),
        "PASSWORD": os.environ.get("RECEIVER_DATABASE_PASSWORD", ""),
        "HOST": os.environ.get("RECEIVER_DATABASE_SOCKET", ""),
    }
}
if os.environ.get("RECEIVER_DATABASE_ENGINE") == "mysql":
    # Before Django 4.1 the default has no characters of four bytes.
    DATABASES["default"]["OPTIONS"] = {"charset": "utf8mb4"}
