// Keeps what somebody enters into <form data-keeps> until it is saved: where a session has ended
// meanwhile, or the page breaks, the form comes back as it was left. It is kept in this tab alone,
// by user and address, and goes when they sign out here.
(() => {
  const keyOf = (path) => `kept:${document.body.dataset.user}:${path}`;
  const stored = (key) => JSON.parse(sessionStorage.getItem(key));

  // A save is answered with a redirect. To sign in as well, but that page has no script; and after
  // it one comes from there.
  const cameFrom = document.referrer && new URL(document.referrer);
  const wasRedirected = performance.getEntriesByType("navigation")[0].redirectCount > 0;
  if (wasRedirected && cameFrom && cameFrom.origin === location.origin) {
    const key = keyOf(cameFrom.pathname);
    if (stored(key)?.isSent) sessionStorage.removeItem(key);
  }

  document.addEventListener("submit", ({ target }) => {
    if (!target.matches("[data-signs-out]")) return;
    for (const key of Object.keys(sessionStorage)) {
      if (key.startsWith("kept:")) sessionStorage.removeItem(key);
    }
  });

  const form = document.querySelector("form[data-keeps]");
  if (!form) return;
  const key = keyOf(location.pathname);
  const kept = stored(key);
  const entries = () => [...new FormData(form)].filter(
    ([name, value]) => typeof value === "string" && name !== "csrfmiddlewaretoken" && name !== "restored",
  );
  let isTyped = Boolean(kept);
  let isSent = false;
  const keep = () => sessionStorage.setItem(key, JSON.stringify({ isSent, entries: entries() }));

  // The server makes the form of it, with as many steps and the same files.
  const restore = () => {
    const post = document.createElement("form");
    post.method = "post";
    const token = form.elements.csrfmiddlewaretoken.value;
    for (const [name, value] of [...kept.entries, ["csrfmiddlewaretoken", token], ["restored", "1"]]) {
      // No <input>: of a text it would drop the line breaks.
      const field = document.createElement("textarea");
      field.name = name;
      field.value = value;
      post.append(field);
    }
    post.hidden = true;
    document.body.append(post);
    post.submit();
  };

  if (kept && form.dataset.keeps === "posted") keep();
  else if (kept && JSON.stringify(kept.entries) !== JSON.stringify(entries())) return restore();

  const typed = () => { isTyped = true; isSent = false; keep(); };
  form.addEventListener("input", typed);
  form.addEventListener("change", typed);
  // A file that was chosen is there by now. An answer may also come in after it was sent.
  document.addEventListener("htmx:afterSettle", () => { if (isTyped) keep(); });
  form.addEventListener("submit", () => { isSent = true; keep(); });
  for (const link of document.querySelectorAll("[data-forgets]")) {
    link.addEventListener("click", () => { isTyped = false; sessionStorage.removeItem(key); });
  }
})();
