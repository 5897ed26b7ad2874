// The filter of a webhook's form: rows beside the JSON, and a count of the events that match, while one types.
// The host makes rows of JSON and JSON of rows. This script presses the form's own button for a count in each pause of typing,
// and takes over the answer. Without it, the form has the JSON and the button.

const PAUSE_MS = 400;

const filter = document.querySelector("[data-filter]");
if (filter) follow(filter);

function follow(filter) {
  const form = filter.closest("form");
  const source = filter.querySelector("[name=filter_from]");
  const json = filter.querySelector("[name=filter]");
  const part = (name, root = filter) => root.querySelector(`[data-part=${name}]`);
  let timer, isAsking = false, hasChanged = false;

  part("rows").hidden = part("rows").disabled = false;
  arrange();

  // Some operators have no value.
  function arrange() {
    for (const operator of part("list").querySelectorAll("select")) {
      operator.parentElement.querySelector("[name='row.value']").hidden = operator.selectedOptions[0].hasAttribute("data-alone");
    }
  }

  function countSoon() {
    clearTimeout(timer);
    timer = setTimeout(() => count(), PAUSE_MS);
  }

  // One request at a time; what was typed meanwhile is counted after it.
  // The first request changes nothing, so the rows stay: one of them may have the focus.
  async function count(isFirst = false) {
    if (isAsking) { hasChanged = true; return; }
    isAsking = true;
    hasChanged = false;
    const body = new URLSearchParams(new FormData(form));
    body.set("count", "yes");
    body.set("part", "filter");
    try {
      const answer = await fetch(form.action, { method: "POST", body });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-filter]");
      if (!hasChanged) take(fresh, isFirst);
    } catch {
      take(null);
    }
    isAsking = false;
    if (hasChanged) count();
  }

  function take(fresh, isFirst) {
    if (!fresh) {
      part("summary").textContent = "The events could not be counted. Reload the page, or press the button.";
      part("matching").replaceChildren();
      return;
    }
    for (const name of ["error", "fields", "summary", "matching"]) part(name).replaceChildren(...part(name, fresh).childNodes);
    const error = part("error", fresh), text = fresh.querySelector("[name=filter]");
    part("error").hidden = error.hidden;
    json.removeAttribute("aria-invalid");
    if (source.value === "rows") {
      if (error.hidden) json.value = text.value;
      markRows(fresh);
    } else if (!isFirst) {
      if (!error.hidden) json.setAttribute("aria-invalid", "true");
      // The focus can be in a row already when the answer about the JSON arrives. It stays there, as far as the row does.
      const place = controls().indexOf(document.activeElement);
      part("list").replaceChildren(...part("list", fresh).childNodes);
      arrange();
      const control = controls()[place];
      control?.focus();
      control?.select?.();
    }
  }

  function controls() {
    return [...part("list").querySelectorAll("input, select, button")];
  }

  // The rows stay, because one of them has the focus.
  function markRows(fresh) {
    const others = part("list", fresh).querySelectorAll("input");
    part("list").querySelectorAll("input").forEach((input, index) => {
      if (others[index]?.hasAttribute("aria-invalid")) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    });
  }

  function typed(from) {
    source.value = from;
    countSoon();
  }

  form.addEventListener("input", ({ target }) => {
    if (part("rows").contains(target)) { arrange(); typed("rows"); }
    else if (target === json) typed("json");
    else if (["modules", "events"].includes(target.name)) countSoon();
  });

  filter.addEventListener("click", (event) => {
    const rows = part("list").querySelector("ol");
    if (event.target.closest("[data-add]")) {
      const row = rows.lastElementChild.cloneNode(true);
      for (const input of row.querySelectorAll("input")) { input.value = ""; input.removeAttribute("aria-invalid"); }
      row.querySelector("select").selectedIndex = 0;
      rows.append(row);
      arrange();
      row.querySelector("input").focus();
    } else if (event.target.closest("[data-remove]")) {
      const add = part("list").querySelector("[data-add]");
      if (rows.childElementCount === 1) add.click();
      event.target.closest("li").remove();
      add.focus();
      typed("rows");
    } else if (event.target.closest("[name=count]")) {
      event.preventDefault();
      clearTimeout(timer);
      count();
    }
  });

  // Fields are suggested, and events counted, from the first visit of the filter on.
  filter.addEventListener("focusin", () => count(true), { once: true });
}
