// The page of the API: the list narrows while one types, and an answer comes without a reload. Both work without this script.

const find = document.querySelector("form[data-find]");
if (find) {
  const field = find.querySelector("input[type=search]"), list = document.getElementById(find.dataset.find);
  const narrow = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const section of list.querySelectorAll("section")) {
      let shown = 0;
      for (const item of section.querySelectorAll("[data-words]")) {
        item.hidden = !words.every((word) => item.dataset.words.includes(word));
        if (!item.hidden) shown++;
      }
      section.hidden = shown === 0;
      count += shown;
    }
    document.getElementById("none").hidden = count > 0;
    document.getElementById("found").textContent = count === 1 ? "1 operation" : `${count} operations`;
  };
  field.addEventListener("input", narrow);
  find.addEventListener("submit", (event) => {
    event.preventDefault();
    const address = new URL(location.href);
    address.searchParams.set("q", field.value);
    history.replaceState(null, "", address);
  });
}

// The form goes to the host as without a script, and the parts that the answer changes are taken out of the page that comes back.
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("form[data-try]")) return;
  event.preventDefault();
  const button = event.submitter;
  button.disabled = true;
  form.setAttribute("aria-busy", "true");
  try {
    const came = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    const fresh = new DOMParser().parseFromString(await came.text(), "text/html");
    // The session has ended: the page says so when it is loaded again.
    if (!fresh.getElementById("try")) { location.reload(); return; }
    for (const id of ["curl", "try"]) document.getElementById(id).replaceWith(fresh.getElementById(id));
    (document.getElementById("answer") ?? document.querySelector("#try [aria-invalid=true]"))?.focus();
  } catch {
    button.disabled = false;
    form.removeAttribute("aria-busy");
    // The browser sends the form by itself, and shows why the host cannot be reached.
    form.submit();
  }
});
