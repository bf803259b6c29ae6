"""A worker with the workflow `Report`, whose end is what the tenant's name says.

    temporal_worker.py ADDRESS work    works until it is ended
    temporal_worker.py ADDRESS count   prints how many workflows there are
"""

import asyncio
import sys

from temporalio import workflow
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker


@workflow.defn(name="Report")
class Report:
    @workflow.run
    async def run(self, item: dict) -> dict:
        await asyncio.sleep(0.5)
        tenant = item["tenant_id"]
        if tenant.startswith("bad"):
            raise ApplicationError("no such customer", non_retryable=True)
        if tenant.startswith("busy") and item["attempt"] == 1:
            raise ApplicationError("no paper")
        if tenant.startswith("idle"):
            return {"status": "nothing_to_do", "reason": "no news"}
        return {"of": tenant}


async def main():
    client = await Client.connect(sys.argv[1])
    if sys.argv[2] == "count":
        print((await client.count_workflows()).count)
        return
    async with Worker(client, task_queue="reports", workflows=[Report]):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
