"""Runs a job of a running agent, lists its batches and asks for what contains unions, with a client that a public generator has made of the agent's
OpenAPI document."""

import importlib
import sys
import time

JOB = "instagram_post_preference_based"

package, url = sys.argv[1:]
api, models = f"{package}.api.default", importlib.import_module(f"{package}.models")
client = importlib.import_module(f"{package}.client").AuthenticatedClient(base_url=url, token="openapi")
trigger = importlib.import_module(f"{api}.trigger")
batches = importlib.import_module(f"{api}.batches")
jobs = importlib.import_module(f"{api}.jobs")
explain = importlib.import_module(f"{api}.explain_tenant")

# Until the agent has read the preferences, the job has no items.
for _ in range(300):
    queued = trigger.sync(JOB, client=client, body=models.TriggerRequest(all_=True))
    if isinstance(queued, models.TriggeredBatch):
        break
    time.sleep(0.1)
else:
    sys.exit(f"the generated client cannot trigger {JOB}: {queued}")
page = batches.sync(client=client, job_id=JOB)
if not isinstance(page, models.Batches):
    sys.exit(f"not a list of batches: {page}")
found = [batch for batch in page.batches if batch.batch_id == queued.batch_id]
if len(found) != 1 or found[0].progress.total != queued.total or found[0].trigger != models.Trigger.MANUAL:
    sys.exit(f"the batch {queued.batch_id} of {queued.total} items is not listed as it was queued: {page}")
listed = jobs.sync(client=client).jobs
if not any(hasattr(job, "feature_type") for job in listed) or not any(hasattr(job, "schedule") for job in listed):
    sys.exit(f"not jobs of both kinds: {listed}")
explained = explain.sync("user1", client=client, job_id=JOB)
if explained.tenant_id != "user1" or not explained.verdict.value:
    sys.exit(f"not an explanation: {explained}")
print(f"A generated client lists {len(page.batches)} batches, one of them of {queued.total} items that it has queued")
