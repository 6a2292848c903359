"""How fast all workers together may send: FCM's quota for the project, reached slowly.

FCM allows 600,000 messages a minute and asks senders to ramp up over a minute and to leave it alone for as long as it
says (https://firebase.google.com/docs/cloud-messaging/scale-fcm). The bucket is in Redis, and each question to it one
script, so that any number of workers share it.
"""

from redis import Redis

from . import config

BUCKET = "push:bucket"
PAUSE = "push:pause"

# A sender that starts from rest may have sent rate * t² / (2 * ramp) messages t seconds later, until t = ramp; from
# then on `rate` more each second. One chunk is free at the start, and an unused allowance keeps for one second.
# KEYS: bucket, pause. ARGV: messages wanted, full rate (a second), ramp (s), chunk size. Returns 1 (yes) or 0 (no).
# Who has left a chunk's worth unused for as long as the ramp is at rest.
TAKE = """
local wanted, rate, ramp, chunk = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local bucket = redis.call('HMGET', KEYS[1], 'started', 'sent')
local started, sent = tonumber(bucket[1]), tonumber(bucket[2])
local function allowance(t)
    if t >= ramp and t > 0 then return rate * (t - ramp / 2) end
    return t <= 0 and 0 or rate * t * t / (2 * ramp)
end
if not started or allowance(now - started - math.max(ramp, 1)) >= sent + chunk then started, sent = now, -chunk end
local t = now - started
sent = math.max(sent, allowance(t - 1) - chunk)
local yes = sent + wanted <= allowance(t)
if yes then
    redis.call('HSET', KEYS[1], 'started', tostring(started), 'sent', sent + wanted)
    redis.call('EXPIRE', KEYS[1], 3600)
end
return yes and 1 or 0
"""

redis = Redis.from_url(config.REDIS_URL)
_take = redis.register_script(TAKE)


def may_send(messages: int) -> bool:
    """Take ``messages`` out of the bucket; False when it does not hold that many yet."""
    arguments = [messages, config.FCM_QUOTA_PER_MINUTE / 60, config.FCM_RAMP_UP, config.CHUNK_SIZE]
    return bool(_take(keys=[BUCKET, PAUSE], args=arguments))


def pause(seconds: float) -> None:
    """Let nobody send for so long, and ramp up anew after that."""
    with redis.pipeline() as both:
        both.set(PAUSE, "1", px=max(1, int(seconds * 1000)))
        both.delete(BUCKET)
        both.execute()
