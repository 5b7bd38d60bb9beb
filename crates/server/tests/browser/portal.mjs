// Drives the portal in headless Chromium, by keyboard and by mouse. Run by main.rs here.
import assert from "node:assert/strict";
import { join } from "node:path";
import { check, finish, heading, launch, logIn, pictures, root, url } from "./pages.mjs";

const shot = (page, name, options = {}) => page.screenshot({ path: join(pictures, name), ...options });
const focused = (page) => page.evaluate(() => document.activeElement.id || document.activeElement.innerText.trim());

/** Autofocus happens when the page is rendered, which may be after its load event. */
async function takesFocus(page, wanted) {
  const deadline = Date.now() + 60_000;
  while ((await focused(page)) !== wanted && Date.now() < deadline) await page.waitForTimeout(50);
  assert.equal(await focused(page), wanted);
}

/** Presses Tab until this element has the focus, and checks that the focus is visible. */
async function tabTo(page, wanted) {
  for (let step = 0; step < 60; step += 1) {
    if ((await focused(page)) === wanted) {
      const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
      assert.notEqual(outline, "none", `the focus on ${wanted} cannot be seen`);
      return;
    }
    await page.keyboard.press("Tab");
  }
  assert.fail(`${wanted} cannot be reached by keyboard`);
}

async function press(page, wanted, key = "Enter") {
  await tabTo(page, wanted);
  await Promise.all([page.waitForEvent("load"), page.keyboard.press(key)]);
}

async function add(page, name, scopes, options = {}) {
  await page.goto(`${url}/keys/new`);
  await page.getByLabel("Name", { exact: true }).fill(name);
  for (const scope of scopes) await page.getByLabel(scope, { exact: true }).check();
  if (options.inactive) await page.getByRole("radio", { name: "No" }).check();
  if (options.expires) await page.getByLabel("Expires").fill(options.expires);
  await page.getByRole("button", { name: "Save Changes" }).click();
  await page.waitForSelector("#key");
  return page.locator("#key").inputValue();
}

const whoami = (page, key) => page.request.get(`${url}/v1/whoami`, {
  headers: { authorization: `Basic ${Buffer.from(`${key}:`).toString("base64")}` },
}).then((answer) => answer.status());

// ── by keyboard alone: log in, add a key, copy it, deactivate it, delete it, log out
const browser = await launch("keyboard");
const { context, page } = browser;
await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: url });
await page.goto(url);
assert.equal(await heading(page), "Log in");
await check(browser, "login");
await tabTo(page, "key");
await page.keyboard.type("pcl_nonsense");
await press(page, "Log in");
await takesFocus(page, "key");
assert.match(await page.locator("#key-error").innerText(), /not valid/);
await check(browser, "login, refused");
await tabTo(page, "key");
await page.keyboard.type(root);
await press(page, "Log in");
assert.equal(await heading(page), "API Keys");
await press(page, "Add API Key");
await check(browser, "add");
await takesFocus(page, "name");
await page.keyboard.type(" ");
await press(page, "Save Changes");
await takesFocus(page, "name");
await check(browser, "add, refused");
await page.keyboard.press("Control+A");
await page.keyboard.type("Nightly export");
await tabTo(page, "scope-api-read");
await page.keyboard.press("Space");
await press(page, "Save Changes");
assert.equal(await heading(page), "Your new API key");
await takesFocus(page, "key");
const key = await page.locator("#key").inputValue();
await check(browser, "reveal");
await tabTo(page, "Copy");
await page.keyboard.press("Enter");
await page.getByText("The key is on your clipboard.").waitFor();
assert.equal(await page.evaluate(() => navigator.clipboard.readText()), key);
assert.equal(await whoami(page, key), 200);
// Reloading sends the form again and creates no second key.
await page.reload();
assert.equal(await heading(page), "This key was already revealed");
assert.ok(!(await page.content()).includes(key));
await check(browser, "already revealed");
await press(page, "Back to API Keys");
await press(page, "Nightly export");
await check(browser, "key");
await tabTo(page, "active-yes");
await page.keyboard.press("ArrowRight");
await press(page, "Save Changes");
await page.getByText("Your changes are saved.").waitFor();
assert.equal(await whoami(page, key), 401);
await check(browser, "key, inactive");
await press(page, "Delete…");
await check(browser, "delete");
await press(page, "Delete key");
await page.getByText("The key was deleted.").waitFor();
await press(page, "Log out");
await page.getByText("You are logged out.").waitFor();
await context.close();

// ── by mouse: a full list, its search, markup as a name, the audit log, a session that ends
const mouse = await launch("mouse");
await logIn(mouse.page, root);
const soon = new Date(Date.now() + 90 * 86_400_000).toISOString().slice(0, 10);
const data = ["api.read", "api.write"];
await add(mouse.page, "Embed service", ["admin.embed.token"]);
await add(mouse.page, "Old till, floor 2", ["api.read"], { inactive: true });
await add(mouse.page, "Ledger import", data, { expires: soon });
await add(mouse.page, "<script>alert(1)</script>", ["api.read"]);
const clerk = await add(mouse.page, "Key desk", ["admin.key.list", "admin.key.create", "admin.key.update", ...data]);
await add(mouse.page, "Connection watch", ["admin.connection.health", "admin.account.list", "admin.account.update"]);
await mouse.page.getByRole("link", { name: "I have stored it" }).click();
await mouse.page.waitForLoadState("load");
assert.equal(await mouse.page.locator("tbody tr").count(), 7);
assert.ok(await mouse.page.getByRole("link", { name: "<script>alert(1)</script>" }).isVisible());
await check(mouse, "list");
await mouse.page.getByRole("link", { name: "<script>alert(1)</script>" }).click();
assert.equal(await heading(mouse.page), "<script>alert(1)</script>");
await mouse.page.getByRole("button", { name: "Deactivate" }).click();
await mouse.page.getByRole("link", { name: "Delete…" }).click();
await mouse.page.getByRole("button", { name: "Delete key" }).click();
await mouse.page.getByLabel("Search").fill("TILL");
await mouse.page.getByLabel("Status").selectOption("inactive");
await mouse.page.getByRole("button", { name: "Search" }).click();
await mouse.page.waitForLoadState("load");
assert.equal(await mouse.page.locator("tbody tr").count(), 1);
await mouse.page.getByRole("link", { name: "Clear" }).click();
await mouse.page.mouse.move(0, 0);
await shot(mouse.page, "portal-list.png");
await mouse.page.emulateMedia({ colorScheme: "dark" });
await shot(mouse.page, "portal-list-dark.png");
await mouse.page.emulateMedia({ colorScheme: "light" });
await mouse.page.goto(`${url}/?q=nothing+like+it`);
await check(mouse, "list, empty");
await mouse.page.getByRole("link", { name: "Audit log" }).click();
assert.equal(await heading(mouse.page), "Audit log");
await check(mouse, "audit log");
if (process.env.PORTAL_ALL_PICTURES) {
  const all = process.env.PORTAL_ALL_PICTURES;
  await mouse.page.screenshot({ path: join(all, "audit.png") });
  await mouse.page.goto(`${url}/keys/new`);
  await mouse.page.screenshot({ path: join(all, "add.png"), fullPage: true });
  await mouse.page.goto(url);
  await mouse.page.getByRole("link", { name: "Ledger import" }).click();
  await mouse.page.screenshot({ path: join(all, "edit.png"), fullPage: true });
  await mouse.page.emulateMedia({ colorScheme: "dark" });
  await mouse.page.screenshot({ path: join(all, "edit-dark.png"), fullPage: true });
  await mouse.page.setViewportSize({ width: 360, height: 740 });
  await mouse.page.screenshot({ path: join(all, "edit-phone-dark.png"), fullPage: true });
  await mouse.page.emulateMedia({ colorScheme: "light" });
  await mouse.page.goto(url);
  await mouse.page.screenshot({ path: join(all, "list-phone.png") });
  await mouse.page.goto(`${url}/audit`);
  await mouse.page.screenshot({ path: join(all, "audit-phone.png") });
  await mouse.page.setViewportSize({ width: 1280, height: 800 });
}
await mouse.page.goto(url);
await mouse.page.getByRole("link", { name: "Embed service" }).click();
await mouse.page.getByRole("link", { name: "Rotate…" }).click();
await check(mouse, "rotate");
if (process.env.PORTAL_ALL_PICTURES) await mouse.page.screenshot({ path: join(process.env.PORTAL_ALL_PICTURES, "rotate.png") });
await mouse.page.getByRole("radio", { name: "One day" }).check();
await mouse.page.getByRole("button", { name: "Rotate key" }).click();
await mouse.page.getByText("Copy this key now.").waitFor();
assert.equal(await whoami(mouse.page, await mouse.page.locator("#key").inputValue()), 200);
await mouse.page.goto(`${url}/keys/key_00000000000`);
assert.equal(await heading(mouse.page), "Not found");
await check(mouse, "not found");

// A clerk cannot choose scopes that it may not grant, and its session ends once its key is revoked.
const desk = await launch("desk");
await logIn(desk.page, clerk);
await desk.page.getByRole("link", { name: "Add API Key" }).click();
assert.ok(await desk.page.getByLabel("admin.embed.token", { exact: true }).isDisabled());
assert.ok(await desk.page.getByLabel("api.read", { exact: true }).isEnabled());
await check(desk, "add, by a clerk");
await mouse.page.goto(url);
await mouse.page.getByRole("link", { name: "Key desk" }).click();
await mouse.page.getByRole("button", { name: "Deactivate" }).click();
await mouse.page.getByText("Your changes are saved.").waitFor();
await desk.page.reload();
await desk.page.getByText("Your session has ended.").waitFor();
if (process.env.PORTAL_ALL_PICTURES) await desk.page.screenshot({ path: join(process.env.PORTAL_ALL_PICTURES, "login.png") });
await desk.context.close();

// ── a stale form: another session revokes the key, then renames it
const staleKey = await add(mouse.page, "Stale", ["api.read"]);
await mouse.page.getByRole("link", { name: "Edit this key" }).click();
await mouse.page.waitForSelector("h1:has-text('Stale')");
const other = await mouse.context.newPage();
await other.goto(mouse.page.url());
await other.getByRole("button", { name: "Deactivate" }).click();
await other.getByText("Your changes are saved.").waitFor();
await mouse.page.getByLabel("Name", { exact: true }).fill("Stale, renamed");
await mouse.page.getByRole("button", { name: "Save Changes" }).click();
await mouse.page.getByText("those changes stay").waitFor();
assert.equal(await heading(mouse.page), "Stale, renamed");
assert.ok(await mouse.page.getByRole("radio", { name: "No" }).isChecked());
assert.equal(await whoami(mouse.page, staleKey), 401);
await other.getByLabel("Name", { exact: true }).fill("Theirs");
await other.getByRole("button", { name: "Save Changes" }).click();
await other.waitForSelector("#keep_name-now");
await check({ page: other, cdp: await mouse.context.newCDPSession(other) }, "key, conflict");
assert.equal(await other.getByRole("radio", { name: /Stale, renamed|Theirs/, checked: true }).count(), 0);
// The browser asks for a choice before it sends the form.
await other.getByRole("button", { name: "Save Changes" }).click();
assert.ok(await other.locator("#keep_name-mine").isVisible());
if (process.env.PORTAL_ALL_PICTURES) await other.screenshot({ path: join(process.env.PORTAL_ALL_PICTURES, "conflict.png"), fullPage: true });
await other.getByRole("radio", { name: "Your value: Theirs" }).check();
await other.getByRole("button", { name: "Save Changes" }).click();
await other.getByText("Your changes are saved.").waitFor();
assert.equal(await heading(other), "Theirs");
assert.equal(await whoami(mouse.page, staleKey), 401);
await other.close();

// The screenshot shows a key of a temporary store.
await add(mouse.page, "Payroll sync", data);
await shot(mouse.page, "portal-reveal.png");
await mouse.context.close();

// ── without JavaScript: everything but copying
const plain = await launch("plain", { javaScriptEnabled: false });
await logIn(plain.page, root);
const shown = await add(plain.page, "Without script", ["api.read"]);
assert.equal(await plain.page.getByRole("button", { name: "Copy" }).count(), 0);
assert.equal(await whoami(plain.page, shown), 200);
await plain.page.getByRole("link", { name: "I have stored it" }).click();
await plain.page.getByRole("link", { name: "Without script" }).click();
await plain.page.getByRole("radio", { name: "No" }).check();
await plain.page.getByRole("button", { name: "Save Changes" }).click();
await plain.page.getByText("Your changes are saved.").waitFor();
assert.equal(await whoami(plain.page, shown), 401);
await plain.page.getByRole("button", { name: "Log out" }).click();
await plain.page.getByText("You are logged out.").waitFor();
await plain.context.close();

// ── leaked keys in a pasted text and in a file
const leaks = await launch("leaks");
await logIn(leaks.page, root);
const pasted = await add(leaks.page, "Pasted", ["api.read"]);
const filed = await add(leaks.page, "In a file", data);
await leaks.page.goto(url);
await leaks.page.getByRole("link", { name: "Find leaked keys" }).click();
await check(leaks, "leaked");
await leaks.page.getByLabel("Text", { exact: true }).fill(`GET /ledger?key=${pasted}\n`);
const dump = Buffer.from(`\u0000Basic ${Buffer.from(`${filed}:`).toString("base64")}\r\n`);
await leaks.page.getByLabel("File").setInputFiles({ name: "dump", mimeType: "application/octet-stream", buffer: dump });
await leaks.page.getByRole("button", { name: "Find keys" }).click();
await leaks.page.waitForSelector("h1:has-text('Leaked keys')");
assert.equal(await leaks.page.locator("tbody tr").count(), 2);
const found = await leaks.page.content();
assert.ok(![pasted, filed].some((key) => found.includes(key)));
await check(leaks, "leaked, found");
assert.deepEqual([await whoami(leaks.page, pasted), await whoami(leaks.page, filed)], [200, 200]);
await leaks.page.getByRole("button", { name: "Revoke 2 keys" }).click();
await leaks.page.getByText("They are refused from now on.").waitFor();
await check(leaks, "leaked, revoked");
assert.deepEqual([await whoami(leaks.page, pasted), await whoami(leaks.page, filed)], [401, 401]);
await leaks.context.close();

finish();
