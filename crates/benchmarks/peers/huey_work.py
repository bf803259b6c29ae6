"""Adds N jobs that do nothing to a huey queue in a SQLite file, and works them off; prints the seconds of either.

Results are kept, and what is stored survives a power cut, as ours does.
"""

import logging
import sys
import tempfile
import threading
import time

from huey import SqliteHuey

logging.disable(logging.INFO)
jobs = int(sys.argv[1])
folder = tempfile.TemporaryDirectory()
huey = SqliteHuey(filename=f"{folder.name}/huey.db", fsync=True)
done = 0
lock, all_done = threading.Lock(), threading.Event()


@huey.task()
def work(tenant):
    global done
    with lock:
        done += 1
        if done == jobs:
            all_done.set()
    return f"Good morning, {tenant}"


began = time.monotonic()
for n in range(jobs):
    work(f"user{n:08}")
added = time.monotonic()
consumer = huey.create_consumer(workers=1, periodic=False)
consumer.start()
all_done.wait()
print(added - began, time.monotonic() - added)
consumer.stop(graceful=True)
