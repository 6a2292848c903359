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

# Fan-out through the outbox
RELAY_INTERVAL = float(environ.get("RELAY_INTERVAL", "1"))  # seconds
CHUNK_SIZE = int(environ.get("CHUNK_SIZE", "500"))  # phones; the most that FCM takes in one request
CHUNK_TIMEOUT = float(environ.get("CHUNK_TIMEOUT", "30"))  # seconds until an unfinished chunk is handed out again
CHUNKS_IN_FLIGHT = int(environ.get("CHUNKS_IN_FLIGHT", "8"))  # of all authors together
VISIBILITY_TIMEOUT = float(environ.get("VISIBILITY_TIMEOUT", "60"))  # seconds; more than CHUNK_TIMEOUT
NOTIFY_EVERY_PHONE = environ.get("NOTIFY_EVERY_PHONE", "no") == "yes"  # or only each follower's newest
PUSH_BACKOFF = float(environ.get("PUSH_BACKOFF", "10"))  # seconds before the second attempt; doubled for each more
PUSH_BACKOFF_MAX = float(environ.get("PUSH_BACKOFF_MAX", "600"))  # seconds
PUSH_EXPIRES = float(environ.get("PUSH_EXPIRES", "86400"))  # seconds; older news is no news
FCM_QUOTA_WAIT = float(environ.get("FCM_QUOTA_WAIT", "60"))  # seconds after a 429 without Retry-After

# One request for each message
FCM_CONCURRENCY = int(environ.get("FCM_CONCURRENCY", "100"))  # requests in flight from one worker process
FCM_QUOTA_PER_MINUTE = float(environ.get("FCM_QUOTA_PER_MINUTE", "600000"))  # messages of the whole project
FCM_RAMP_UP = float(environ.get("FCM_RAMP_UP", "60"))  # seconds from the first message to the full rate
