// Editor of scripts (CodeMirror) in place of the text area of the page. The page works without it.
//
// The text area stays a field of the form, with the editor's text. The policy of the page allows styles by its nonce only, so
// CodeMirror gets the nonce. The script is judged by the host after each pause in typing, and the host answers with the right pane.

import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap, snippetCompletion } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { javascript, javascriptLanguage } from "@codemirror/lang-javascript";
import { HighlightStyle, bracketMatching, indentOnInput, syntaxHighlighting } from "@codemirror/language";
import { lintGutter, lintKeymap, setDiagnostics } from "@codemirror/lint";
import { highlightSelectionMatches, searchKeymap } from "@codemirror/search";
import { EditorState } from "@codemirror/state";
import { EditorView, drawSelection, highlightActiveLine, highlightActiveLineGutter, highlightSpecialChars, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";

// Pause in typing after which the script is judged, in milliseconds.
const PAUSE_MS = 400;

// What a script can use, as the reference has it.
const OFFERED = [
  ["pass()", "pass", "Send the event as it came"],
  ["replace(${body})", "replace", "Send this instead"],
  ["drop(\"${reason}\")", "drop", "Send nothing"],
  ["later(${60_000}, \"${why}\")", "later", "Be asked again after this time, in milliseconds"],
  ["invalidEvent(\"${code}\")", "invalidEvent", "Failure: this event will always be invalid"],
  ["transient(\"${code}\")", "transient", "Failure: another time may do"],
  ["badConfig(\"${code}\")", "badConfig", "Failure: the configuration is wrong"],
  ["config.${key}", "config", "The webhook's configuration"],
  ["history.previous()", "history.previous", "The event before of the same contact or deal"],
  ["secrets.hmacSha256(\"${name}\", ${data})", "secrets.hmacSha256", "HMAC with a secret of the webhook"],
  ["console.log(${text})", "console.log", "A line in the log of the attempt"],
].map(([template, label, detail]) => snippetCompletion(template, { label, detail, type: "function" }));

const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.modifier, tags.operatorKeyword], color: "var(--keyword)" },
  { tag: [tags.string, tags.regexp, tags.special(tags.string), tags.number, tags.bool, tags.null], color: "var(--literal)" },
  { tag: [tags.function(tags.variableName), tags.function(tags.propertyName), tags.function(tags.definition(tags.variableName))], color: "var(--name)" },
  { tag: [tags.comment], color: "var(--quiet)" },
  { tag: [tags.invalid], color: "var(--bad)" },
]);

const look = EditorView.theme({
  "&": { color: "var(--ink)", backgroundColor: "var(--paper)", border: "1px solid var(--quiet)", borderRadius: "6px", fontSize: ".9rem" },
  "&.cm-focused": { outline: "3px solid var(--accent)", outlineOffset: "2px" },
  ".cm-scroller": { fontFamily: "ui-monospace, monospace", lineHeight: "1.5", minHeight: "24rem", maxHeight: "40rem", borderRadius: "6px" },
  ".cm-content": { caretColor: "var(--ink)" },
  ".cm-gutters": { color: "var(--quiet)", backgroundColor: "var(--card)", borderRight: "1px solid var(--line)" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "color-mix(in srgb, var(--accent) 8%, transparent)" },
  ".cm-cursor, .cm-dropCursor": { borderLeftColor: "var(--ink)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "color-mix(in srgb, var(--accent) 28%, transparent)" },
  ".cm-matchingBracket, &.cm-focused .cm-matchingBracket": { backgroundColor: "color-mix(in srgb, var(--accent) 20%, transparent)", outline: "1px solid var(--line)" },
  ".cm-selectionMatch": { backgroundColor: "color-mix(in srgb, var(--accent) 14%, transparent)" },
  ".cm-panels, .cm-tooltip": { color: "var(--ink)", backgroundColor: "var(--card)", borderColor: "var(--line)" },
  ".cm-tooltip-autocomplete > ul > li[aria-selected]": { color: "#fff", backgroundColor: "#0550ae" },
  // CodeMirror's own marks are images in data: URLs, which the policy of the page refuses.
  ".cm-lint-marker-error": { content: "none", width: ".7em", height: ".7em", margin: ".4em .15em", borderRadius: "50%", backgroundColor: "var(--bad)" },
  ".cm-lintRange-error": { backgroundImage: "none", textDecoration: "underline wavy var(--bad)", textDecorationSkipInk: "none" },
  ".cm-diagnostic-error": { borderLeftColor: "var(--bad)" },
  ".cm-completionDetail": { fontStyle: "normal", opacity: ".8" },
  ".cm-panel input, .cm-panel button, .cm-panel label": { width: "auto", fontSize: ".85rem" },
});

/** Returns the diagnostics of a result: the place of the script's error, from its line to the end of the name there. */
function diagnostics(state, result) {
  const error = result.querySelector(".script-error[data-line]");
  if (!error) return [];
  const number = Number(error.dataset.line);
  if (number > state.doc.lines) return [];
  const line = state.doc.line(number);
  const from = Math.min(line.from + Math.max(Number(error.dataset.column) - 1, 0), line.to);
  const word = /^[\w$]+/.exec(line.text.slice(from - line.from));
  const to = Math.min(from + (word ? word[0].length : 1), line.to);
  return [{ from: Math.min(from, to), to, severity: "error", message: error.querySelector("code").textContent }];
}

function edit(form) {
  const source = form.querySelector("#source"), result = form.querySelector("#result"), judged = form.querySelector("#judged");
  const nonce = document.querySelector("script[nonce]").nonce;
  let timer = 0, running = null, isSaved = true;

  async function judge() {
    clearTimeout(timer);
    running?.abort();
    const own = new AbortController();
    running = own;
    const body = new FormData(form);
    body.set("do", "try");
    body.set("part", "result");
    result.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(form.action, { method: "POST", body, signal: own.signal });
      if (answer.redirected || !answer.ok) throw new Error(answer.redirected ? "The session has ended: sign in again in another tab." : `The host answered ${answer.status}.`);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (own.signal.aborted) return;
      result.replaceChildren(...fresh.body.childNodes);
    } catch (error) {
      if (own.signal.aborted) return;
      const told = document.createElement("p");
      told.className = "problem";
      told.textContent = `It could not be judged. ${error.message}`;
      result.replaceChildren(told);
    }
    result.removeAttribute("aria-busy");
    view.dispatch(setDiagnostics(view.state, diagnostics(view.state, result)));
    const where = result.querySelector(".script-error");
    judged.textContent = [result.querySelector("h3")?.textContent, where?.textContent].filter(Boolean).join(": ");
  }

  function soon() {
    clearTimeout(timer);
    timer = setTimeout(judge, PAUSE_MS);
  }

  const changed = EditorView.updateListener.of((update) => {
    if (!update.docChanged) return;
    source.value = update.state.doc.toString();
    isSaved = false;
    soon();
  });
  const view = new EditorView({
    state: EditorState.create({
      doc: source.value,
      extensions: [
        EditorView.cspNonce.of(nonce),
        lineNumbers(), highlightActiveLineGutter(), highlightSpecialChars(), history(), drawSelection(), indentOnInput(),
        bracketMatching(), closeBrackets(), autocompletion(), highlightActiveLine(), highlightSelectionMatches(), lintGutter(),
        javascript(), javascriptLanguage.data.of({ autocomplete: OFFERED }),
        syntaxHighlighting(colours), look, EditorView.lineWrapping, EditorState.tabSize.of(2),
        EditorView.contentAttributes.of({ "aria-label": "Source of the script", "aria-describedby": "source-hint" }),
        keymap.of([...closeBracketsKeymap, ...defaultKeymap, ...searchKeymap, ...historyKeymap, ...completionKeymap, ...lintKeymap, indentWithTab]),
        changed,
      ],
    }),
  });
  source.before(view.dom);
  source.required = false;
  form.classList.add("editing");

  form.addEventListener("input", (event) => { if (event.target.matches("[name=event_text], [name=config]")) soon(); });
  form.addEventListener("change", (event) => { if (event.target.matches("[name=pick]")) judge(); });
  form.addEventListener("submit", (event) => {
    if (event.submitter?.value === "save") { isSaved = true; return; }
    event.preventDefault();
    judge();
  });
  addEventListener("beforeunload", (event) => { if (!isSaved) event.preventDefault(); });
  judge();
}

for (const form of document.querySelectorAll("form[data-editor]")) edit(form);
