// Copies a key, and sends a form once where somebody clicks twice. All else works without this file.
"use strict";
const PAUSE_MS = 10_000;
for (const form of document.querySelectorAll('form[method="post"]')) {
  let sent;
  form.addEventListener("submit", (event) => {
    // The browser would discard the answer to the first click, which may show a new key.
    if (event.timeStamp - sent < PAUSE_MS) event.preventDefault();
    else sent = event.timeStamp;
  });
  addEventListener("pageshow", () => { sent = undefined; });
}
for (const button of document.querySelectorAll("[data-copy]")) {
  const field = document.getElementById(button.dataset.copy);
  const status = document.querySelector("[data-copy-status]");
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(field.value);
      button.textContent = "Copied";
      status.textContent = "The key is on your clipboard.";
    } catch {
      field.focus();
      field.select();
      status.textContent = "Press Ctrl+C (on a Mac, Command+C) to copy the key.";
    }
  });
}
