// Scenarios of who asks: public tokens of the server's and of a root key's, and personal ones.
import assert from "node:assert/strict";
import { WhoAmIResponseSchema } from "@trigger.dev/core/v3";
import { auth, batch, envvars, queues, runs, tasks } from "@trigger.dev/sdk";
import { finished, unique } from "./common.mjs";

const twoRuns = async () => [await tasks.trigger("sdk.echo", 1), await tasks.trigger("sdk.echo", 2)];

async function showsOneRun(accessToken, mine, other) {
  await auth.withAuth({ accessToken }, async () => {
    assert.equal((await runs.retrieve(mine.id)).id, mine.id);
    await assert.rejects(runs.retrieve(other.id), (error) => error.status === 404);
    await assert.rejects(runs.cancel(mine.id), (error) => error.status === 403);
  });
}

async function triggersOnce(accessToken) {
  await auth.withAuth({ accessToken }, async () => {
    await tasks.trigger("sdk.echo", 3);
    await assert.rejects(tasks.trigger("sdk.echo", 4), (error) => error.status === 401);
  });
}

export const credentials = {
  async publicTokens() {
    const [mine, other] = await twoRuns();
    const token = await auth.createPublicToken({ scopes: { read: { runs: [mine.id] } } });
    for (const accessToken of [token, mine.publicAccessToken]) await showsOneRun(accessToken, mine, other);
    await triggersOnce(await auth.createTriggerPublicToken("sdk.echo"));
    const onceForMuch = await auth.createTriggerPublicToken("sdk.echo");
    await auth.withAuth({ accessToken: onceForMuch }, () => tasks.trigger("sdk.echo", { value: "x".repeat(200_000) }));
  },

  async tokensSignedWithARootKey() {
    await auth.withAuth({ accessToken: process.env.TRIGGER_ROOT_KEY }, async () => {
      const [mine, other] = await twoRuns();
      const token = await auth.createPublicToken({ scopes: { read: { runs: [mine.id] } }, expirationTime: "1hr" });
      assert.equal(JSON.parse(atob(token.split(".")[1])).jti, undefined); // nobody was asked for it
      await showsOneRun(token, mine, other);
      await triggersOnce(await auth.createTriggerPublicToken("sdk.echo"));
    });
  },

  async personalTokens() {
    const accessToken = process.env.PERSONAL_TOKEN;
    const asked = { headers: { Authorization: `Bearer ${accessToken}` } }; // as the command line does
    const answer = await fetch(`${process.env.TRIGGER_API_URL}/api/v2/whoami?projectRef=proj_x`, asked);
    const user = WhoAmIResponseSchema.parse(await answer.json());
    assert.deepEqual([user.email, user.project.name], ["ada@shop.example", "proj_x"]);
    await auth.withAuth({ accessToken, previewBranch: "dev" }, async () => {
      const handle = await tasks.trigger("sdk.add", { x: 1, y: 2 });
      assert.equal((await finished(handle.id)).output, 3);
      assert.equal((await batch.trigger([{ id: "sdk.echo", payload: 1 }])).runCount, 1);
      assert.equal((await queues.list()).data.length > 0, true);
    });
    await auth.withAuth({ accessToken }, async () => {
      assert.equal((await runs.list("proj_x", { env: "dev", limit: 1 })).data.length, 1);
      await assert.rejects(runs.list("proj_x", { env: "mars" }), (error) => error.status === 404);
      const name = unique().toUpperCase();
      await envvars.create("proj_x", "dev", { name, value: "one" });
      assert.equal((await envvars.retrieve("proj_x", "dev", name)).value, "one");
      await assert.rejects(tasks.trigger("sdk.echo", 1), (error) => error.status === 400 && /x-trigger-branch/.test(error.message));
    });
  },
};
