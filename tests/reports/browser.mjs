// A page of a report in headless Chromium, without a window and without a
// network: what it asks for, whether anything hangs out of it, how large its
// maps are; and pictures of it, light and dark.
//
//   node tests/reports/browser.mjs CHROMIUM PAGE.html FOLDER
//
// FOLDER gets light.png, dark.png, narrow.png and print.pdf.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [chromium, page, folder] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), "reports-"));
const flags = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
  "--hide-scrollbars", "--remote-debugging-pipe", `--user-data-dir=${profile}`,
];
const browser = spawn(chromium, flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
const [, , , to, from] = browser.stdio;

// Chromium's protocol for tools: JSON, each message ended by a byte of zero.
const waiting = new Map();
const happened = [];
let rest = "";
from.on("data", (bytes) => {
  rest += bytes;
  const messages = rest.split("\0");
  rest = messages.pop();
  for (const message of messages.map((text) => JSON.parse(text))) {
    if (message.id) waiting.get(message.id)(message);
    else happened.push(message);
  }
});
let last = 0;
let session;
function ask(method, params = {}) {
  const id = ++last;
  to.write(`${JSON.stringify({ id, method, params, sessionId: session })}\0`);
  return new Promise((answer, refuse) => {
    waiting.set(id, ({ result, error }) => (error ? refuse(new Error(error.message)) : answer(result)));
  });
}
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
async function until(method) {
  for (let waited = 0; waited < 30_000; waited += 50) {
    if (happened.some((event) => event.method === method)) return;
    await sleep(50);
  }
  throw new Error(`no ${method}`);
}
async function value(expression) {
  const { result } = await ask("Runtime.evaluate", { expression, returnByValue: true });
  return result.value;
}

const wrong = [];
function check(is, what) {
  if (!is) wrong.push(what);
}

async function picture(name, width, scheme, height) {
  await ask("Emulation.setDeviceMetricsOverride", { width, height: 900, deviceScaleFactor: 1, mobile: false });
  const features = [{ name: "prefers-color-scheme", value: scheme }];
  await ask("Emulation.setEmulatedMedia", { features });
  const [wide, all] = await value("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]");
  check(wide <= width, `at ${width} pixels the page is ${wide} wide`);
  const clip = { x: 0, y: 0, width, height: Math.min(all, height), scale: 1 };
  const { data } = await ask("Page.captureScreenshot", { clip, captureBeyondViewport: true });
  writeFileSync(join(folder, name), Buffer.from(data, "base64"));
}

try {
  const { targetId } = await ask("Target.createTarget", { url: "about:blank" });
  ({ sessionId: session } = await ask("Target.attachToTarget", { targetId, flatten: true }));
  for (const domain of ["Page", "Network", "Runtime", "Log"]) await ask(`${domain}.enable`);
  const url = pathToFileURL(resolve(page)).href;
  await ask("Page.navigate", { url });
  await until("Page.loadEventFired");
  await sleep(500);
  const asked = happened.filter((e) => e.method === "Network.requestWillBeSent").map((e) => e.params.request.url);
  check(asked.length === 1 && asked[0] === url, `it asks for ${asked.join(" ")}`);
  const complaints = happened.filter((e) => e.method === "Log.entryAdded").map((e) => e.params.entry.text);
  check(complaints.length === 0, `Chromium says ${complaints.join("; ")}`);
  const maps = await value(
    "[...document.querySelectorAll('figure svg')].map((svg) => { const at = svg.getBoundingClientRect();" +
    " return [at.width, at.height, svg.getAttribute('aria-label')]; })",
  );
  check(maps.length > 0, "there is no map");
  for (const [width, height, label] of maps) check(width > 300 && height > 50 && label, `a map is ${width} by ${height}`);
  // A path that is there and not seen has no colour.
  const strokes = await value("[...document.querySelectorAll('figure path')].map((path) => getComputedStyle(path).stroke)");
  check(strokes.every((stroke) => stroke.startsWith("rgb")), `colours are ${strokes}`);
  check(await value("getComputedStyle(document.body).backgroundColor") !== "rgba(0, 0, 0, 0)", "the style is not taken");
  await picture("light.png", 1000, "light", 1340);
  const light = await value("getComputedStyle(document.body).backgroundColor");
  await picture("dark.png", 1000, "dark", 4000);
  check(await value("getComputedStyle(document.body).backgroundColor") !== light, "dark is as light");
  await picture("narrow.png", 360, "light", 4000);
  const { data } = await ask("Page.printToPDF", { printBackground: false });
  writeFileSync(join(folder, "print.pdf"), Buffer.from(data, "base64"));
  await ask("Browser.close").catch(() => {});
} catch (error) {
  wrong.push(error.message);
  browser.kill();
}
await new Promise((done) => (browser.exitCode === null ? browser.on("exit", done) : done()));
rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
for (const what of wrong) console.error(`${page}: ${what}`);
process.exit(wrong.length === 0 ? 0 : 1);
