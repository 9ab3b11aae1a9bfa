// What the scenarios share: a client, names of their own, and waiting for what is to come.
import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import { ApiClient } from "@trigger.dev/core/v3";
import { runs } from "@trigger.dev/sdk";

export const unique = () => `t${Date.now()}${Math.random().toString(36).slice(2)}`;
export const client = new ApiClient(process.env.TRIGGER_API_URL, process.env.TRIGGER_SECRET_KEY);

export async function until(what) {
  for (let n = 0; n < 1200; n++) {
    const found = await what();
    if (found) return found;
    await pause(100);
  }
  assert.fail(`never: ${what}`);
}

export async function finished(id) {
  await until(async () => (await runs.retrieve(id)).isCompleted); // `poll` itself gives up after 500 looks
  return runs.poll(id);
}

export const waiting = (id) => until(async () => (await runs.retrieve(id)).isWaiting);
