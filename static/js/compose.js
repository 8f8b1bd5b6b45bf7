// Conveniences of the compose page: the length of the message, the chips that insert, Ctrl+S, and
// a warning before what was written is lost.
const form = document.getElementById("compose");
const message = document.getElementById("id_message");
const length = document.getElementById("length");
const chips = document.getElementById("chips");
let changed = false;

const count = () => {
  length.querySelector("output").value = [...message.value].length.toLocaleString(document.documentElement.lang);
};
const insert = (text) => {
  message.focus();
  message.setRangeText(text, message.selectionStart, message.selectionEnd, "end");
  message.dispatchEvent(new Event("input", { bubbles: true }));
};

length.hidden = chips.hidden = false;
count();
message.addEventListener("input", count);
chips.addEventListener("click", ({ target }) => {
  const mark = target.dataset.wraps;
  const selected = message.value.slice(message.selectionStart, message.selectionEnd);
  if (mark) insert(mark + (selected || target.textContent.slice(1, -1)) + mark);
  else if (target.dataset.inserts) insert(target.dataset.inserts);
});

// Without a "later" there is no date to give: it is not shown, and not posted either.
const when = () => {
  const later = form.querySelector("[name=when]:checked")?.value === "later";
  document.getElementById("id_starts_at").disabled = !later;
};
form.addEventListener("change", when);
when();

// By its Back button the browser fills in what was written, beside a count and a preview of nothing.
const isFilledIn = ({ value, defaultValue, checked, defaultChecked, options }) =>
  options ? [...options].some((option) => option.selected !== option.defaultSelected) :
  checked !== defaultChecked || (defaultValue !== undefined && value !== defaultValue);
window.addEventListener("pageshow", ({ persisted }) => {
  count();
  when();
  if (persisted || [...form.elements].some(isFilledIn)) form.dispatchEvent(new Event("restored"));
});

// What is wrong with a field is told anew while somebody writes, and its mark goes by that.
document.addEventListener("htmx:afterSettle", () => {
  for (const errors of form.querySelectorAll("[id$=_errors]")) {
    const field = document.getElementById(errors.id.replace("_errors", ""));
    if (errors.childElementCount) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
  }
});

form.addEventListener("input", () => { changed = true; });
form.addEventListener("submit", () => { changed = false; });
window.addEventListener("beforeunload", (event) => { if (changed) event.preventDefault(); });
document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "s") {
    event.preventDefault();
    form.requestSubmit(document.querySelector("[form=compose][value=save]"));
  }
});
document.querySelector("[data-takes-focus]")?.focus();
