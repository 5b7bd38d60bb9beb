// Shared code of the browser tests of the portal.
//
// On every page, in light and dark mode, axe finds no violation of WCAG 2.2 AA. During the whole test
// the policy reports nothing, no request leaves the origin, and the console stays empty.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

export const { PORTAL_URL: url, PORTAL_KEY: root, PORTAL_PROFILE: profile, PORTAL_PICTURES: pictures } = process.env;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const reports = [];
const visited = new Set();
let checked = 0;
mkdirSync(pictures, { recursive: true });

export async function launch(name, options = {}) {
  const context = await chromium.launchPersistentContext(join(profile, name), {
    executablePath: process.env.CHROMIUM,
    headless: true,
    ignoreHTTPSErrors: true,
    viewport: { width: 1280, height: 800 },
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    ...options,
  });
  context.setDefaultTimeout(60_000);
  context.on("request", (request) => {
    const target = new URL(request.url());
    if (target.origin !== url) reports.push(`a request left the origin: ${target.origin}`);
  });
  const page = context.pages()[0] ?? (await context.newPage());
  page.on("console", (message) => {
    // Expected error responses appear in the console too, and the test may type into a field before
    // the page focuses it.
    const expected = /Failed to load resource: the server responded|Autofocus processing was blocked/;
    if (!expected.test(message.text())) reports.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => reports.push(`script: ${error.message}`));
  page.on("dialog", (dialog) => { reports.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  const cdp = await context.newCDPSession(page);
  await cdp.send("Audits.enable").catch(() => {});
  cdp.on("Audits.issueAdded", ({ issue }) => {
    if (issue.code === "ContentSecurityPolicyIssue") reports.push(`policy: ${JSON.stringify(issue.details)}`);
  });
  return { context, page, cdp };
}

// The policy blocks scripts in the page, axe included, so axe runs in an isolated world.
async function violations(cdp) {
  const { frameTree } = await cdp.send("Page.getFrameTree");
  const { executionContextId: contextId } = await cdp.send("Page.createIsolatedWorld", {
    frameId: frameTree.frame.id, worldName: "axe",
  });
  await cdp.send("Runtime.evaluate", { contextId, expression: axe });
  const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
  const run = `axe.run(document, { runOnly: ${JSON.stringify(tags)} }).then((found) => JSON.stringify(
    found.violations.map((v) => v.id + ": " + v.nodes.map((n) => n.html + " " + n.failureSummary).join("; "))))`;
  const { result, exceptionDetails } = await cdp.send("Runtime.evaluate", {
    contextId, expression: run, awaitPromise: true,
  });
  assert.equal(exceptionDetails, undefined, JSON.stringify(exceptionDetails));
  return JSON.parse(result.value);
}

export async function check({ page, cdp }, name) {
  visited.add(name);
  await page.waitForLoadState("load");
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    assert.deepEqual(await violations(cdp), [], `${name}, ${colorScheme}`);
    for (const width of [1280, 360, 320]) {
      await page.setViewportSize({ width, height: 800 });
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(over <= 0, `${name} is ${over} px too wide at ${width}`);
    }
    assert.deepEqual(await violations(cdp), [], `${name}, ${colorScheme}, on a phone`);
    await page.setViewportSize({ width: 1280, height: 800 });
    checked += 1;
  }
  await page.emulateMedia({ colorScheme: "light" });
}

export const heading = (page) => page.locator("h1").innerText();

export async function logIn(page, key) {
  await page.goto(url);
  await page.getByLabel("Admin key").fill(key);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForSelector("h1:has-text('API Keys')");
}

export function finish() {
  assert.deepEqual(reports, []);
  console.log(`${visited.size} pages, ${checked} checks by axe in light and dark, wide and narrow: nothing found`);
}
