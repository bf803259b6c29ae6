// graphile-worker on the database of TEST_POSTGRES_URL: so many jobs that do nothing, added in one statement, worked on
// with a local queue and completed in batches. Prints the seconds to add them, and to have all done.
import { makeWorkerUtils, run } from "graphile-worker";

const total = Number(process.argv[2]);
const connectionString = process.env.TEST_POSTGRES_URL;
const utils = await makeWorkerUtils({ connectionString });
await utils.migrate();
const began = performance.now();
await utils.withPgClient((client) =>
  client.query(
    `select graphile_worker.add_jobs(array(
       select ('noop', json_build_object('tenant', 'user' || n), null, null, null, null, null, null)::graphile_worker.job_spec
       from generate_series(1, $1) n))`,
    [total],
  ),
);
const added = performance.now();
let done = 0;
const runner = await run({
  connectionString,
  taskList: { noop: async () => { done += 1; } },
  preset: {
    worker: {
      maxPoolSize: 26,
      concurrentJobs: 25,
      localQueue: { size: 500 },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
    },
  },
  noHandleSignals: true,
});
const left = () =>
  utils.withPgClient(async (client) => {
    const { rows } = await client.query("select count(*)::int as n from graphile_worker._private_jobs");
    return rows[0].n;
  });
while (done < total || (await left()) > 0) await new Promise((resolve) => setTimeout(resolve, 20));
const ended = performance.now();
console.log(`${(added - began) / 1000} ${(ended - added) / 1000}`);
await runner.stop();
await utils.release();
process.exit(0);
