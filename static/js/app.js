// What htmx and HTML do not do by themselves. The pages work without this file.

// A hidden tab asks for nothing.
document.addEventListener("htmx:beforeRequest", (event) => {
  const element = event.detail.elt;
  if (document.hidden && element.matches("[hx-trigger*='every']")) event.preventDefault();
});

// <button data-opens="id"> opens that <dialog>; without JavaScript it goes to the page that asks.
document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  const dialog = opener && document.getElementById(opener.dataset.opens);
  if (dialog) {
    event.preventDefault();
    dialog.showModal();
  }
  if (event.target.closest("[data-closes]")) {
    const open = event.target.closest("dialog");
    if (open) {
      event.preventDefault();
      open.close();
    }
  }
});

// The second of two clicks, which would do it twice, does nothing; a click later tries again.
const submittedAt = new WeakMap();
document.addEventListener("submit", (event) => {
  if (event.target.method !== "post" || event.defaultPrevented) return;
  if (event.timeStamp - submittedAt.get(event.target) < 2000) event.preventDefault();
  else submittedAt.set(event.target, event.timeStamp);
});

// Search and filter forms submit themselves when a choice changes.
document.addEventListener("change", (event) => {
  if (event.target.matches("select[data-submits]")) event.target.form.requestSubmit();
});

// Keys: "/" goes to the search, "n" to what the page offers as new. Never while someone types.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
  const target = { "/": "[type=search]", n: "[data-key=n]" }[event.key];
  const element = target && document.querySelector(target);
  if (!element) return;
  event.preventDefault();
  if (event.key === "n") element.click();
  else element.focus();
});

// <b data-seconds="60">60</b> counts down to nothing.
setInterval(() => {
  for (const element of document.querySelectorAll("[data-seconds]")) {
    element.dataset.seconds = element.textContent = Math.max(element.dataset.seconds - 1, 0);
  }
}, 1000);
