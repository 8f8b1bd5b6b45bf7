// Runs before the page is drawn, so that it never flashes in the other theme.
// The key is the one Django's admin uses: a choice made here holds there, and the other way round.
(() => {
  const root = document.documentElement;
  const stored = () => localStorage.getItem("theme") || "auto";
  const apply = (theme) => {
    root.dataset.theme = theme;
    for (const button of document.querySelectorAll("[data-set-theme]")) {
      button.setAttribute("aria-pressed", String(button.dataset.setTheme === theme));
    }
  };
  apply(stored());
  document.addEventListener("DOMContentLoaded", () => {
    apply(stored());
    for (const group of document.querySelectorAll(".themes")) group.classList.add("ready");
    for (const button of document.querySelectorAll("[data-set-theme]")) {
      button.addEventListener("click", () => {
        localStorage.setItem("theme", button.dataset.setTheme);
        apply(button.dataset.setTheme);
      });
    }
  });
  window.addEventListener("storage", () => apply(stored()));
})();
