// The vendors' Node SDKs behind one door. A line of JSON in, a line of JSON out, in order:
//   {"judge": "github", "secret": "…", "now": <Unix seconds>, "headers": {"name": "value"}, "body": "<base64>", …}
//   {"verdict": true}, or {"verdict": false, "why": "…"} where the SDK says no, by its answer or by throwing;
//   {"answer": …} where the SDK was asked what it would answer a challenge. {"broken": "…"}: not the SDK's verdict.
import https from "node:https";
import readline from "node:readline";
import { EventEmitter } from "node:events";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
for (const level of ["log", "debug", "info", "warn"]) console[level] = console.error; // stdout is ours

const judges = {
  async github({ secret, headers, body }) {
    const { verify } = await import("@octokit/webhooks-methods");
    return verify(secret, body.toString(), headers["x-hub-signature-256"] ?? "");
  },

  async linear({ secret, headers, body }) {
    const { LinearWebhookClient } = await import("@linear/sdk/webhooks");
    const url = "https://judge.invalid/";
    const handler = new LinearWebhookClient(secret).createHandler();
    return (await handler(new Request(url, { method: "POST", headers, body }))).status === 200;
  },

  async paddle({ secret, headers, body }) {
    const { Paddle } = await import("@paddle/paddle-node-sdk");
    return new Paddle("unused").webhooks.isSignatureValid(body.toString(), secret, headers["paddle-signature"] ?? "");
  },

  async shopify({ secret, headers, body }) {
    await import("@shopify/shopify-api/adapters/web-api");
    const { LogSeverity, shopifyApi } = await import("@shopify/shopify-api");
    const shopify = shopifyApi({
      apiKey: "unused", apiSecretKey: secret, apiVersion: "2025-10", hostName: "judge.invalid", isEmbeddedApp: false,
      logger: { level: LogSeverity.Error }, isTesting: true,
    });
    const rawRequest = new Request("https://judge.invalid/", { method: "POST", headers, body });
    return (await shopify.webhooks.validate({ rawBody: body.toString(), rawRequest })).valid;
  },

  async zoom({ secret, headers, body }) {
    return (await zoom(secret, headers, body)).statusCode === 200;
  },

  async discord({ secret, headers, body }) {
    const { verifyKey } = require("discord-interactions");
    return verifyKey(body, headers["x-signature-ed25519"] ?? "", headers["x-signature-timestamp"] ?? "", secret);
  },

  async telegram({ secret, headers, body }) {
    const { Bot, webhookCallback } = require("grammy");
    const bot = new Bot("1:unused", { botInfo: { id: 1, is_bot: true, first_name: "judge", username: "judge" } });
    const handle = webhookCallback(bot, "std/http", { secretToken: secret });
    return (await handle(new Request("https://judge.invalid/", { method: "POST", headers, body }))).status === 200;
  },

  async x({ secret, headers, body }) {
    const { validateSignature } = require("twitter-autohook");
    return validateSignature(headers, { consumer_secret: secret }, body);
  },

  // The certificate comes with the question: nothing is fetched.
  async sns({ certificate, body }) {
    const fetching = https.get;
    https.get = (url, done) => {
      const response = Object.assign(new EventEmitter(), { statusCode: 200 });
      queueMicrotask(() => { done(response); response.emit("data", certificate); response.emit("end"); });
      return new EventEmitter();
    };
    try {
      const MessageValidator = require("sns-validator");
      const validated = (settle) => new MessageValidator().validate(body.toString(), settle);
      return await new Promise((accept, refuse) => validated((error) => (error ? refuse(error) : accept(true))));
    } finally {
      https.get = fetching;
    }
  },
};

const challenged = {
  async zoom({ secret, headers, body }) {
    return JSON.parse((await zoom(secret, headers, body)).body);
  },

  async x({ secret, token }) {
    const { validateWebhook } = require("twitter-autohook");
    return validateWebhook(token, { consumer_secret: secret });
  },
};

async function zoom(webhooksSecretToken, headers, body) {
  const { AwsLambdaReceiver } = await import("@zoom/rivet/users");
  return new AwsLambdaReceiver({ webhooksSecretToken }).start()({ headers, body: body.toString() }, {});
}

// Who looks at the clock sees the time of the question.
const RealDate = Date;
let now = RealDate.now();
globalThis.Date = class extends RealDate {
  constructor(...given) { super(...(given.length ? given : [now])); }
  static now() { return now; }
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const question = JSON.parse(line);
  now = question.now * 1000 || RealDate.now();
  question.body = Buffer.from(question.body ?? "", "base64");
  const table = question.challenge ? challenged : judges;
  const ask = table[question.judge];
  let reply;
  try {
    if (!ask) reply = { broken: `no judge ${question.judge}` };
    else if (question.challenge) reply = { answer: await ask(question) };
    else reply = { verdict: (await ask(question)) === true };
  } catch (error) {
    // A judge that cannot even be loaded must not pass for one that says no.
    const missing = ["ERR_MODULE_NOT_FOUND", "MODULE_NOT_FOUND", "ERR_PACKAGE_PATH_NOT_EXPORTED"].includes(error?.code);
    reply = missing || question.challenge ? { broken: String(error) } : { verdict: false, why: String(error) };
  }
  process.stdout.write(JSON.stringify(reply) + "\n");
}
