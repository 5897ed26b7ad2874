// The live parts of the pages. Everything works without them; they only make it quicker.

const csrf = document.body.dataset.csrf;

// The host writes times in words of their distance, with the exact one as a tooltip: here the tooltip is in the reader's time zone,
// and the words go on while the page is open.
const words = new Intl.RelativeTimeFormat("en", { numeric: "always" });
function distance(at) {
  const seconds = Math.round((at - Date.now()) / 1000), away = Math.abs(seconds);
  if (away < 10) return "just now";
  if (away > 30 * 86400) return at.toISOString().slice(0, 10);
  const [unit, length] = away < 90 ? ["second", 1] : away < 5400 ? ["minute", 60] : away < 129600 ? ["hour", 3600] : ["day", 86400];
  return words.format(Math.round(seconds / length), unit);
}
function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    time.title = "relative" in time.dataset ? at.toLocaleString() : `${at.toLocaleString()} (${distance(at)})`;
    if ("relative" in time.dataset) time.textContent = distance(at);
  }
}
setInterval(() => localTimes(document), 30000);

// A page that watches something takes its regions anew when it hears of it, at most once a second. A region with a checked box stays.
async function refresh() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const region of document.querySelectorAll("[data-region]")) {
    const other = fresh.querySelector(`[data-region="${region.dataset.region}"]`);
    if (!other || other.innerHTML === region.dataset.was || region.contains(document.activeElement) || region.querySelector(".choose input:checked")) continue;
    const was = other.innerHTML;
    region.replaceChildren(...other.childNodes);
    region.dataset.was = was;
    localTimes(region);
  }
}

function watch(topic) {
  let waiting = false;
  const source = new EventSource(topic);
  const look = () => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => { waiting = false; refresh(); }, 300);
  };
  // What happened between the making of the page and the beginning of the watch, or while it was cut off, was not told.
  source.onopen = () => { document.body.setAttribute("data-watching", "yes"); look(); };
  source.onmessage = look;
}

// What cannot be undone is asked about first. The dialogue's button has the words of the one that was pressed.
document.addEventListener("submit", (event) => {
  const form = event.target, question = form.dataset.confirm;
  if (!question || form.isConfirmed) return;
  event.preventDefault();
  const dialog = document.createElement("dialog");
  dialog.className = "dialog";
  const text = document.createElement("p"), actions = document.createElement("div");
  const keep = document.createElement("button"), go = document.createElement("button");
  text.id = "confirm-question";
  text.textContent = question;
  dialog.setAttribute("aria-labelledby", text.id);
  actions.className = "actions";
  keep.textContent = "Cancel";
  go.textContent = event.submitter?.getAttribute("aria-label") ?? event.submitter?.textContent.trim() ?? "Continue";
  go.className = event.submitter?.classList.contains("danger") ? "danger solid" : "primary";
  actions.append(keep, go);
  dialog.append(text, actions);
  keep.addEventListener("click", () => dialog.close());
  go.addEventListener("click", () => { form.isConfirmed = true; dialog.close(); form.requestSubmit(event.submitter); });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
});

// A menu of actions is left by Escape, or by a click elsewhere. Without scripts it is closed by its own button.
function closeMenus(except) {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (menu !== except) menu.open = false;
}
document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && event.target.closest("details.menu[open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});
document.addEventListener("click", (event) => closeMenus(event.target.closest("details.menu")));

document.addEventListener("change", (event) => {
  if (event.target.matches("select[data-submit]")) event.target.form.requestSubmit();
  if (event.target.matches("[data-check-all]")) {
    for (const box of event.target.form.querySelectorAll("tbody input[type=checkbox]")) box.checked = event.target.checked;
  }
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = button.dataset.copy ? document.querySelector(button.dataset.copy) : button.parentElement.querySelector("pre, code");
  await navigator.clipboard.writeText(source.textContent);
  const before = [...button.childNodes];
  button.replaceChildren("Copied");
  setTimeout(() => button.replaceChildren(...before), 1500);
});

// A component can be dropped on the form, and its way up is shown.
for (const form of document.querySelectorAll("form[data-upload]")) {
  const file = form.querySelector("input[type=file]"), name = form.querySelector("input[name=name]"), told = form.querySelector(".progress");
  const suggest = () => { if (!name.value && file.files[0]) name.value = file.files[0].name.replace(/\.wasm$/, "").replaceAll("_", "-").toLowerCase(); };
  file.addEventListener("change", suggest);
  form.addEventListener("dragover", (event) => { event.preventDefault(); form.classList.add("over"); });
  form.addEventListener("dragleave", () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    file.files = event.dataTransfer.files;
    suggest();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const request = new XMLHttpRequest();
    const begun = Date.now();
    const clock = setInterval(() => { if (request.readyState < 4 && request.upload.done) told.textContent = `Compiling, ${Math.round((Date.now() - begun) / 1000)} s …`; }, 500);
    request.upload.onprogress = (event) => { told.textContent = `${Math.round(100 * event.loaded / event.total)} % sent`; };
    request.upload.onload = () => { request.upload.done = true; told.textContent = "Compiling …"; };
    request.onloadend = () => {
      clearInterval(clock);
      if (request.status === 200) { location.href = `${location.pathname}/${encodeURIComponent(name.value)}`; return; }
      const problem = JSON.parse(request.responseText || "{}");
      told.textContent = [problem.detail ?? "It could not be uploaded.", problem.remedy].filter(Boolean).join(" — ");
    };
    request.open("PUT", `${form.dataset.upload}${encodeURIComponent(name.value)}?activate=${form.how.value === "activate"}`);
    request.setRequestHeader("x-csrf-token", csrf);
    request.send(file.files[0]);
  });
}

localTimes(document);
// A link to the portal opens without another click. Programs that only look at links run no script, and do not use it up.
document.querySelector("form[data-submit-at-once]")?.requestSubmit();
// A note is shown once: its name in the address is of no use afterwards.
const address = new URL(location.href);
if (address.searchParams.has("note")) {
  address.searchParams.delete("note");
  history.replaceState(null, "", address);
}
if (document.body.dataset.live) watch(document.body.dataset.live);
