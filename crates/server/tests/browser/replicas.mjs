// Opens the page of replicas in headless Chromium. Run by main.rs here, which has created one in each
// state.
import assert from "node:assert/strict";
import { check, finish, heading, launch, logIn, root } from "./pages.mjs";

const browser = await launch("replicas");
const { page, context } = browser;
await logIn(page, root);
await page.getByRole("link", { name: "Replicas" }).click();
await page.waitForLoadState("load");
assert.equal(await heading(page), "Replicas");
const states = await page.locator("tbody tr td:nth-child(2)").allInnerTexts();
assert.deepEqual(states.toSorted(), ["Behind", "Current", "Fenced"]);
assert.equal(await page.getByText("this one").count(), 1);
await check(browser, "replicas");
await page.getByRole("link", { name: "Reload" }).click();
await page.waitForLoadState("load");
assert.equal(await page.locator("tbody tr").count(), 3);
await context.close();
finish();
