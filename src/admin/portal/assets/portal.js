// Copies a key. All else works without this file.
"use strict";
for (const button of document.querySelectorAll("[data-copy]")) {
  const field = document.getElementById(button.dataset.copy);
  const told = document.querySelector("[data-told]");
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(field.value);
      button.textContent = "Copied";
      told.textContent = "The key is on your clipboard.";
    } catch {
      field.focus();
      field.select();
      told.textContent = "Press Ctrl+C (on a Mac, Command+C) to copy the key.";
    }
  });
}
