// Scenarios of who looks on: one run, a run that fails, and many.
import assert from "node:assert/strict";
import { auth, runs, tasks, wait } from "@trigger.dev/sdk";
import { client, unique } from "./common.mjs";

export const subscriptions = {
  async subscribeToRun() {
    const made = await wait.createToken({ timeout: "10m" });
    const options = { tags: ['a"b', "c\\d", "e"], metadata: { step: 1 } };
    const handle = await tasks.trigger("sdk.take_token", { token: made.id }, options);
    const seen = [];
    await auth.withAuth({ accessToken: handle.publicAccessToken }, async () => {
      for await (const run of runs.subscribeToRun(handle.id)) {
        if (run.isWaiting && !seen.some((each) => each.isWaiting)) {
          await client.updateRunMetadata(handle.id, { metadata: { step: 2 } });
          await client.completeWaitpointToken(made.id, { data: { ok: true } });
        }
        seen.push(run);
      }
    });
    const last = seen.at(-1);
    assert.deepEqual([last.id, last.status, last.isSuccess], [handle.id, "COMPLETED", true]);
    assert.deepEqual([last.output, last.payload], [{ ok: true }, { token: made.id }]);
    assert.deepEqual([last.tags, last.metadata], [options.tags, { step: 2 }]);
    assert.ok(last.createdAt <= last.startedAt && last.startedAt <= last.finishedAt && last.createdAt > Date.now() - 1e6);
    assert.ok(seen.some((run) => run.isWaiting));
  },

  async subscribeToAFailure() {
    const { id } = await tasks.trigger("sdk.fail", { message: "no luck" });
    let last;
    for await (const run of runs.subscribeToRun(id, { skipColumns: ["payload"] })) last = run;
    assert.deepEqual([last.status, last.error.name, last.error.message], ["FAILED", "ValueError", "no luck"]);
    assert.equal(last.payload, undefined);
  },

  async subscribeToMany() {
    const tag = unique();
    const [first, ended] = [await tasks.trigger("sdk.echo", 1, { tags: [tag] }), new Set()];
    let second;
    for await (const run of runs.subscribeToRunsWithTag(tag)) {
      if (run.isCompleted) ended.add(run.id);
      second ??= await tasks.trigger("sdk.echo", 2, { tags: [tag] });
      if (ended.size === 2) break;
    }
    assert.deepEqual(ended, new Set([first.id, second.id]));
    const handle = await tasks.batchTrigger("sdk.add", [1, 2, 3].map((x) => ({ payload: { x, y: 1 } })));
    const outputs = new Map();
    for await (const run of runs.subscribeToBatch(handle.batchId)) {
      if (run.isCompleted) outputs.set(run.id, run.output);
      if (outputs.size === 3) break;
    }
    assert.deepEqual([...outputs.values()].sort(), [2, 3, 4]);
  },
};
