"""Registers N jobs, one a user, with APScheduler in memory; prints seconds and bytes a job."""

import os
import sys
import time

from apscheduler.schedulers.background import BackgroundScheduler


def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def work(tenant):
    return tenant


jobs = int(sys.argv[1])
scheduler = BackgroundScheduler(timezone="UTC")
scheduler.start(paused=True)
before, began = resident(), time.monotonic()
for n in range(jobs):
    scheduler.add_job(work, "cron", hour=n % 24, minute=n // 24 % 60, args=[f"tenant-{n:09}"], id=f"tenant-{n:09}")
print(time.monotonic() - began, (resident() - before) / jobs)
scheduler.shutdown()
