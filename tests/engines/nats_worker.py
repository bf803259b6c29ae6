"""A worker that pulls items of the purpose `write` from NATS, and answers what the tenant's name says.

    nats_worker.py URL NOTES   works until it is ended, and notes each item in the file NOTES
    nats_worker.py URL         prints why messages on the dead subject were refused
"""

import asyncio
import json
import sys
from datetime import datetime, timedelta, timezone

import nats
from nats.js.api import ConsumerConfig

ITEMS = "punctual.items.write"
# What calls raise while the server is down, or has nothing.
DOWN = (nats.errors.Error, asyncio.TimeoutError, OSError)
HOSTILE = [b"no JSON", b'{"status": "succeeded"}', b'{"call_id": 7, "status": "failed"}']


def answer(item):
    tenant = item["tenant_id"]
    if tenant.startswith("bad"):
        return {"status": "failed", "kind": "permanent", "message": "no such customer"}
    if tenant.startswith("idle"):
        return {"status": "nothing_to_do", "message": "no news"}
    if tenant.startswith("busy") and item["attempt"] == 1:
        return {"status": "failed", "message": "no paper", "retry_after_seconds": 1}
    return {"status": "succeeded", "output": {"of": tenant}}


async def until_done(call):
    """Calls until the server answers: it may be down."""
    while True:
        try:
            return await call()
        except DOWN:
            await asyncio.sleep(0.2)


async def work(client, notes):
    stream = client.jetstream(timeout=2)
    config = ConsumerConfig(ack_wait=5)
    # The agent makes the stream with the first item.
    items = await until_done(lambda: stream.pull_subscribe(ITEMS, durable="workers", config=config))
    while True:
        try:
            messages = await items.fetch(5, timeout=1)
        except DOWN:
            await asyncio.sleep(0.05)
            continue
        for message in messages:
            item = json.loads(message.data)
            subject = message.headers["Punctual-Completion-Subject"]
            call_id = message.headers["Punctual-Call-Id"]
            # An hour is left, the time that the purpose gives. Python 3.10 reads no `Z`.
            deadline = message.headers["Punctual-Deadline"].replace("Z", "+00:00")
            left = datetime.fromisoformat(deadline) - datetime.now(timezone.utc)
            assert timedelta() < left <= timedelta(hours=1), left
            if item["tenant_id"].startswith("bad"):
                # The last one leaves no room for headers.
                for hostile in [*HOSTILE, b"x" * client.max_payload]:
                    await until_done(lambda: stream.publish(subject, hostile))
            said = json.dumps({"call_id": call_id, **answer(item)}).encode()
            # The same id twice is the same answer.
            await until_done(lambda: stream.publish(subject, said, headers={"Nats-Msg-Id": call_id}))
            await until_done(message.ack)
            with open(notes, "a", encoding="utf-8") as file:
                file.write(message.headers["Punctual-Idempotency-Key"] + "\n")
            await asyncio.sleep(0.03)


async def show_dead(client):
    stream = client.jetstream()
    info = await stream.stream_info("PUNCTUAL_DEAD_write")
    for sequence in range(1, info.state.last_seq + 1):
        message = await stream.get_msg("PUNCTUAL_DEAD_write", seq=sequence)
        print(message.headers["Punctual-Reason"])


async def main():
    async def quiet(_error):
        pass

    options = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.1, "error_cb": quiet}
    client = await nats.connect(sys.argv[1], **options)
    if len(sys.argv) > 2:
        await work(client, sys.argv[2])
    else:
        await show_dead(client)
        await client.close()


asyncio.run(main())
