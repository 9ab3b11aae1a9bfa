// What a Node program does with the official SDK. `node scenarios.mjs NAME` ends with 0 if all of it held.
import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import { auth, batch, deployments, envvars, idempotencyKeys, queues, runs, schedules, tasks, wait } from "@trigger.dev/sdk";
import { client, finished, unique, until, waiting } from "./common.mjs";
import { credentials } from "./credentials.mjs";
import { subscriptions } from "./subscriptions.mjs";

const scenarios = {
  ...credentials,
  ...subscriptions,

  async trigger() {
    const handle = await tasks.trigger("sdk.add", { x: 1, y: 2 }, { tags: ["a"], metadata: { k: 1 } });
    const run = await finished(handle.id);
    assert.equal(run.status, "COMPLETED");
    assert.equal(run.output, 3);
    assert.deepEqual(run.payload, { x: 1, y: 2 });
    assert.deepEqual([run.tags, run.metadata], [["a"], { k: 1 }]);
    assert.equal((await finished((await tasks.trigger("sdk.add", { args: [3, 4] })).id)).output, 7);
    const result = await client.getRunResult(handle.id);
    assert.deepEqual([result.ok, result.output], [true, "3"]);
  },

  async values() {
    const value = { when: new Date(0), big: 12345678901234567890n, list: [1, "a", null, true] };
    const run = await finished((await tasks.trigger("sdk.echo", { value })).id);
    assert.match(run.output.when, /^1970-01-01T00:00:00/);
    assert.deepEqual(run.output.list, value.list);
    assert.equal((await finished((await tasks.trigger("sdk.echo", "text")).id)).output, "text");
    assert.equal((await finished((await tasks.trigger("sdk.echo")).id)).output, undefined);
  },

  async refusals() {
    const refused = async (call, status, pattern) =>
      assert.rejects(call, (error) => error.status === status && pattern.test(error.message));
    await refused(tasks.trigger("sdk.add", { x: 1, z: 2 }), 422, /'z'|'y'/);
    await refused(tasks.trigger("sdk.none", {}), 404, /sdk\.none/);
    await refused(runs.retrieve("run_none"), 404, /run_none/);
    const failed = await finished((await tasks.trigger("sdk.fail", { message: "no luck" })).id);
    assert.deepEqual([failed.status, failed.error.name, failed.error.message], ["FAILED", "ValueError", "no luck"]);
    assert.match(failed.error.stackTrace, /Traceback/);
    assert.equal((await client.getRunResult(failed.id)).error.message, "no luck");
  },

  async idempotency() {
    const idempotencyKey = await idempotencyKeys.create(unique(), { scope: "global" });
    const first = await tasks.trigger("sdk.echo", 1, { idempotencyKey });
    const second = await tasks.trigger("sdk.echo", 2, { idempotencyKey, idempotencyKeyTTL: "1h" });
    assert.deepEqual([first.isCached, second.isCached, second.id], [false, true, first.id]);
    await finished(first.id);
    await idempotencyKeys.reset("sdk.echo", idempotencyKey);
    assert.notEqual((await tasks.trigger("sdk.echo", 3, { idempotencyKey })).id, first.id);
  },

  async batches() {
    const handle = await tasks.batchTrigger("sdk.add", [1, 2, 3].map((x) => ({ payload: { x, y: 1 } })));
    assert.equal(handle.runCount, 3);
    const done = await until(async () => {
      const found = await batch.retrieve(handle.batchId);
      return found.status === "COMPLETED" && found;
    });
    assert.deepEqual(await Promise.all(done.runs.map(async (id) => (await runs.retrieve(id)).output)), [2, 3, 4]);
    const listed = (await runs.list({ batch: handle.batchId })).data.map((run) => run.id);
    assert.deepEqual(listed.sort(), [...done.runs].sort());
    const results = await client.getBatchResults(handle.batchId);
    assert.deepEqual(results.items.map((item) => item.output), ["2", "3", "4"]);
    const mixed = await batch.trigger([{ id: "sdk.echo", payload: "a" }, { id: "sdk.add", payload: { x: 1, y: 1 } }]);
    assert.equal((await batch.retrieve(mixed.batchId)).runs.length, 2);
    await assert.rejects(batch.trigger([{ id: "sdk.add", payload: { x: 1 } }]), /'y'/);
  },

  async list() {
    const tag = unique();
    const from = new Date(Date.now() - 60_000);
    const made = [];
    for (let n = 0; n < 7; n++) made.unshift((await tasks.trigger("sdk.echo", n, { tags: [tag] })).id);
    await Promise.all(made.map(finished));
    const pages = [];
    for (let page = await runs.list({ tag, limit: 3 }); ; page = await page.getNextPage()) {
      pages.push(page.data.map((run) => run.id));
      if (!page.hasNextPage()) break;
    }
    assert.deepEqual(pages, [made.slice(0, 3), made.slice(3, 6), made.slice(6)]);
    const ids = async (query) => {
      const found = [];
      for await (const run of runs.list({ tag, ...query })) found.push(run.id);
      return found;
    };
    const [queue, nobody] = [{ type: "custom", name: "celery" }, "0192f000-0000-7000-8000-000000000000"];
    for (const query of [
      { status: ["COMPLETED", "FAILED"] }, { taskIdentifier: ["sdk.echo"] }, { from }, { period: "1h" }, { queue },
      { isTest: false }, { to: new Date(Date.now() + 60_000) },
    ]) assert.deepEqual(await ids(query), made, JSON.stringify(query));
    for (const query of [
      { status: "CANCELED" }, { taskIdentifier: "sdk.add" }, { to: from }, { version: "20240101.1" }, { isTest: true },
      { batch: `batch_${nobody}` }, { schedule: `sched_${nobody}` },
    ]) assert.deepEqual(await ids(query), [], JSON.stringify(query));
  },

  async cancel() {
    const { id } = await tasks.trigger("sdk.sleep", { seconds: 3600 });
    await waiting(id);
    assert.deepEqual(await runs.cancel(id), { id });
    const run = await runs.retrieve(id);
    assert.deepEqual([run.status, run.isCancelled, run.isCompleted], ["CANCELED", true, true]);
  },

  async replay() {
    const first = await tasks.trigger("sdk.add", { x: 1, y: 2 });
    await finished(first.id);
    const again = await runs.replay(first.id);
    assert.notEqual(again.id, first.id);
    assert.equal((await finished(again.id)).output, 3);
    const other = await runs.replay(first.id, { payload: { x: 5, y: 5 }, tags: ["again"] });
    const run = await finished(other.id);
    assert.deepEqual([run.output, run.tags], [10, ["again"]]);
  },

  async reschedule() {
    const { id } = await tasks.trigger("sdk.echo", 1, { delay: "1h" });
    const before = await runs.retrieve(id);
    assert.deepEqual([before.status, before.isQueued], ["DELAYED", true]);
    const after = await runs.reschedule(id, { delay: new Date(Date.now() + 7_200_000) });
    assert.ok(after.delayedUntil - before.delayedUntil > 3_500_000);
    await runs.reschedule(id, { delay: "1s" });
    assert.equal((await finished(id)).output, 1);
    await assert.rejects(runs.reschedule(id, { delay: "1h" }), (error) => error.status === 422);
  },

  async labels() {
    const { id } = await tasks.trigger("sdk.sleep", { seconds: 3600 });
    await client.addTags(id, { tags: ["a", "b"] });
    await client.updateRunMetadata(id, { metadata: { step: "one" } });
    const operations = [{ type: "increment", key: "$.progress.done", value: 2 }, { type: "append", key: "log", value: "x" }];
    const { metadata } = await client.updateRunMetadata(id, { operations });
    assert.deepEqual(metadata, { step: "one", progress: { done: 2 }, log: ["x"] });
    const run = await runs.retrieve(id);
    assert.deepEqual([run.tags, run.metadata], [["a", "b"], metadata]);
    await runs.cancel(id);
  },

  async tokens() {
    const made = await wait.createToken({ timeout: "10m", tags: ["js"], idempotencyKey: unique() });
    const taker = await tasks.trigger("sdk.take_token", { token: made.id });
    await waiting(taker.id);
    assert.equal((await wait.retrieveToken(made.id)).status, "WAITING");
    await auth.withAuth({ accessToken: made.publicAccessToken }, () => wait.completeToken(made.id, { ok: true }));
    assert.deepEqual((await finished(taker.id)).output, { ok: true });
    const shown = await wait.retrieveToken(made.id);
    assert.deepEqual([shown.status, shown.output, shown.tags], ["COMPLETED", { ok: true }, ["js"]]);

    const tag = unique();
    const giver = await tasks.trigger("sdk.give_token", { tag });
    await waiting(giver.id);
    const listed = await wait.listTokens({ tags: [tag], status: ["WAITING"] });
    assert.equal(listed.data.length, 1);
    const answer = await fetch(listed.data[0].url, { method: "POST", body: '"by url"' });
    assert.equal(answer.status, 200);
    assert.equal((await finished(giver.id)).output, "by url");
  },

  async queues() {
    await finished((await tasks.trigger("sdk.echo", 1)).id);
    const named = { type: "custom", name: "celery" };
    const listed = (await queues.list()).data;
    const { id } = listed.find((queue) => queue.name === "celery");
    assert.equal((await queues.retrieve(named)).id, id);
    assert.equal((await queues.pause(id)).paused, true);
    const held = await tasks.trigger("sdk.echo", 2);
    assert.equal((await runs.retrieve(held.id)).status, "QUEUED");
    assert.equal((await queues.resume(named)).paused, false);
    assert.equal((await finished(held.id)).output, 2);
  },

  async queueOverrides() {
    await finished((await tasks.trigger("sdk.echo", 1)).id);
    const named = { type: "custom", name: "celery" };
    const set = await queues.overrideConcurrencyLimit(named, 7);
    assert.deepEqual([set.concurrencyLimit, set.concurrency.override, set.concurrency.base], [7, 7, null]);
    assert.ok(set.concurrency.overriddenAt instanceof Date);
    const { current, override } = (await queues.retrieve(set.id)).concurrency;
    assert.deepEqual([current, override], [null, 7]);  // stored, not enforced yet: nothing is limited
    assert.equal((await queues.resetConcurrencyLimit(set.id)).concurrency.override, null);
    await assert.rejects(queues.overrideConcurrencyLimit(named, -1), (error) => error.status === 400);
  },

  async schedules() {
    const deduplicationKey = unique();
    const made = await schedules.create({
      task: "sdk.echo", cron: "0 9 * * 1", deduplicationKey, externalId: "user_1", timezone: "America/New_York",
    });
    assert.deepEqual([made.type, made.active, made.task, made.externalId], ["IMPERATIVE", true, "sdk.echo", "user_1"]);
    assert.match(made.generator.description, /09:00/);
    assert.ok(made.nextRun > new Date());
    const again = await schedules.create({ task: "sdk.echo", cron: "0 10 * * *", deduplicationKey });
    assert.deepEqual([again.id, again.generator.expression, again.timezone], [made.id, "0 10 * * *", "UTC"]);
    const changed = await schedules.update(made.id, { task: "sdk.sleep", cron: "*/5 * * * *", externalId: "user_2" });
    assert.deepEqual([changed.task, changed.externalId], ["sdk.sleep", "user_2"]);
    assert.equal((await schedules.deactivate(made.id)).active, false);
    assert.equal((await schedules.retrieve(made.id)).nextRun, null);
    assert.equal((await schedules.activate(made.id)).active, true);
    const others = await Promise.all([1, 2].map((n) =>
      schedules.create({ task: "sdk.echo", cron: "0 0 1 1 *", deduplicationKey: `${deduplicationKey}-${n}` })));
    const seen = [];
    for await (const each of schedules.list({ perPage: 1 })) seen.push(each.id);
    for (const each of [made, ...others]) assert.ok(seen.includes(each.id));
    for (const each of [made, ...others]) assert.equal((await schedules.del(each.id)).id, each.id);
    await assert.rejects(schedules.retrieve(made.id), (error) => error.status === 404);
    const bad = (fields) => schedules.create({ task: "sdk.echo", cron: "0 9 * * *", deduplicationKey, ...fields });
    await assert.rejects(bad({ cron: "61 * * * *" }), (error) => error.status === 400 && /minute/.test(error.message));
    await assert.rejects(bad({ timezone: "Mars/Olympus" }), (error) => error.status === 400);
    await assert.rejects(bad({ task: "sdk.none" }), (error) => error.status === 404);
    assert.ok((await schedules.timezones()).timezones.includes("Europe/Berlin"));
  },

  async environmentVariables() {
    const [name, secret] = [unique().toUpperCase(), `${unique().toUpperCase()}_SECRET`];
    const shown = async (which) => (await envvars.list("proj_x", "dev")).find((each) => each.name === which);
    assert.equal((await envvars.create("proj_x", "dev", { name, value: "one" })).success, true);
    assert.deepEqual(await envvars.retrieve("proj_x", "dev", name), { name, value: "one", isSecret: false });
    // Outside of a task `envvars.update` of 4.8.3 trips over a variable of its own, before it sends anything.
    await client.updateEnvVar("proj_x", "dev", name, { value: "two" });
    await envvars.create("proj_x", "dev", { name: secret, value: "hush", isSecret: true });
    assert.deepEqual([(await shown(name)).value, (await shown(secret)).isSecret], ["two", true]);
    assert.notEqual((await shown(secret)).value, "hush");
    const variables = { [name]: "three", [unique().toUpperCase()]: "new" };
    await assert.rejects(envvars.upload("proj_x", "dev", { variables }), (error) => error.status === 400);
    await envvars.upload("proj_x", "dev", { variables, override: true });
    assert.equal((await shown(name)).value, "three");
    assert.equal((await envvars.del("proj_x", "dev", name)).success, true);
    await assert.rejects(envvars.retrieve("proj_x", "dev", name), (error) => error.status === 404);
    await assert.rejects(envvars.list("proj_x", "prod"), (error) => error.status === 404);
  },

  async deployments() {
    const register = (body) => fetch(`${process.env.TRIGGER_API_URL}/api/v1/deployments`, {
      method: "POST", body: JSON.stringify(body),
      headers: { authorization: `Bearer ${process.env.TRIGGER_SECRET_KEY}`, "content-type": "application/json" },
    });
    const version = unique();
    assert.equal((await register({ version, git: { commitSha: "abc" }, runtime: "python" })).status, 200);
    const current = await deployments.retrieveCurrent();
    assert.deepEqual([current.version, current.status, current.git.commitSha], [version, "DEPLOYED", "abc"]);
    const { data } = await deployments.list({ limit: 1, status: "DEPLOYED" });
    assert.equal(data[0].id, current.id);
  },

  async bulk() {
    const tag = unique();
    const made = await Promise.all([1, 2, 3].map(() => tasks.trigger("sdk.sleep", { seconds: 3600 }, { tags: [tag] })));
    const completed = (id) => until(async () => {
      const found = await runs.bulk.retrieve(id);
      return found.status === "COMPLETED" && found;
    });
    const byId = await runs.bulk.cancel({ runIds: [made[0].id], name: "one" });
    assert.deepEqual((await completed(byId.id)).counts, { total: 1, success: 1, failure: 0 });
    const byFilter = await runs.bulk.cancel({ filter: { tag, status: ["QUEUED", "EXECUTING", "WAITING"] } });
    assert.equal((await completed(byFilter.id)).counts.success, 2);
    for (const { id } of made) assert.equal((await runs.retrieve(id)).status, "CANCELED");
    const again = await runs.bulk.replay({ runIds: [made[0].id] });
    assert.equal((await completed(again.id)).type, "REPLAY");
    const listed = (await runs.bulk.list({ limit: 10 })).data.map((each) => each.id);
    for (const { id } of [byId, byFilter, again]) assert.ok(listed.includes(id));
    await runs.bulk.cancel({ filter: { tag, taskIdentifier: "sdk.sleep" } });
    await assert.rejects(runs.bulk.abort(byId.id), (error) => error.status === 422);
  },

  async largePayloads() {
    const value = { text: "é".repeat(200_000), when: new Date(0) };
    const run = await finished((await tasks.trigger("sdk.echo", { value })).id);
    assert.equal(run.output.text, value.text);
    assert.match(run.output.when, /^1970-01-01T00:00:00/);
    const text = "x".repeat(200_000);
    assert.equal((await finished((await tasks.trigger("sdk.echo", text)).id)).output, text);
    const handle = await tasks.batchTrigger("sdk.echo", [{ payload: { value: text } }, { payload: { value: 1 } }]);
    const found = await batch.retrieve(handle.batchId);
    assert.equal((await finished(found.runs[0])).output, text);
    await assert.rejects(tasks.trigger("sdk.echo", "x".repeat(4_000_000)), /413|3,145,728|too large/i);
  },

  async trace() {
    const { id } = await tasks.trigger("sdk.add", { x: 1, y: 2 });
    await finished(id);
    const { trace } = await client.retrieveRunTrace(id);
    const [attempt] = trace.rootSpan.children;
    const [step] = attempt.children;
    assert.match(step.data.message, /sum/);
    assert.equal((await client.retrieveSpan(id, step.id)).isPartial, false);
    assert.equal((await client.listRunEvents(id)).events.length, 3);
    const first = await client.retrieveRunTracePage(id, { limit: 2 });
    const rest = await client.retrieveRunTracePage(id, { limit: 2, after: first.pagination.next });
    assert.deepEqual([first.data.length, rest.data.length, rest.pagination.next], [2, 1, undefined]);
    assert.equal((await runs.list("proj_x", { env: ["dev"], limit: 1 })).data.length, 1);
    assert.equal((await runs.list("proj_x", { env: ["prod"], limit: 1 })).data.length, 0);
  },
};

await scenarios[process.argv[2]]();
