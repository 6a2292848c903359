"""Settings, read once from the environment."""

from os import environ

DATABASE_URL = environ.get("DATABASE_URL", "postgresql+psycopg://localhost/social")
DB_POOL_SIZE = int(environ.get("DB_POOL_SIZE", "20"))
DB_MAX_OVERFLOW = int(environ.get("DB_MAX_OVERFLOW", "0"))
DB_POOL_TIMEOUT = float(environ.get("DB_POOL_TIMEOUT", "30"))  # seconds

JWT_SECRET = environ.get("JWT_SECRET", "development-only-set-your-own-secret")
JWT_LIFETIME = float(environ.get("JWT_LIFETIME", "604800"))  # seconds; a week

FCM_URL = environ.get("FCM_URL", "https://fcm.googleapis.com")
FCM_PROJECT = environ.get("FCM_PROJECT", "social")
FCM_ACCESS_TOKEN = environ.get("FCM_ACCESS_TOKEN", "")
FCM_TIMEOUT = float(environ.get("FCM_TIMEOUT", "10"))  # seconds

CELERY_BROKER_URL = environ.get("CELERY_BROKER_URL", "redis://localhost:6379/0")
REDIS_URL = environ.get("REDIS_URL", CELERY_BROKER_URL)
FANOUT_QUEUE = environ.get("FANOUT_QUEUE", "fanout")
FANOUT_RETRY_DELAY = float(environ.get("FANOUT_RETRY_DELAY", "30"))  # seconds
FOLLOWER_COUNTS_REFRESH = float(environ.get("FOLLOWER_COUNTS_REFRESH", "300"))  # seconds
THROTTLE_FOLLOWERS = int(environ.get("THROTTLE_FOLLOWERS", "10000"))
THROTTLE_SECONDS = float(environ.get("THROTTLE_SECONDS", "60"))
