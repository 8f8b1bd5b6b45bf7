// Says when what keeps a page up to date gets no answer any more, until it gets one again.
(() => {
  const bar = document.getElementById("connection");
  // A server that takes a request and never answers it is gone as well. Files take their time.
  const LONGEST = 20_000;

  const say = (what) => {
    const now = new Date();
    for (const text of bar.querySelectorAll("[data-when]")) {
      if (text.dataset.when === what && text.hidden) {
        const time = text.querySelector("time");
        time.dateTime = now.toISOString();
        time.textContent = now.toTimeString().slice(0, 5);
      }
      text.hidden = text.dataset.when !== what;
    }
    bar.hidden = !what;
  };
  const isSignIn = (xhr) => xhr.responseURL && new URL(xhr.responseURL).pathname === bar.dataset.signIn;

  document.addEventListener("htmx:beforeSend", ({ detail }) => {
    if (detail.requestConfig.verb === "get") detail.xhr.timeout = LONGEST;
  });
  document.addEventListener("htmx:sendError", () => say("lost"));
  document.addEventListener("htmx:timeout", () => say("lost"));
  document.addEventListener("htmx:responseError", ({ detail }) => say(detail.xhr.status < 500 ? "refused" : "lost"));
  document.addEventListener("htmx:afterRequest", ({ detail }) => {
    if (detail.successful) say("");
  });
  // Or the page to sign in would stand in the middle of this one.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (!isSignIn(event.detail.xhr)) return;
    event.preventDefault();
    say("refused");
  });
})();
