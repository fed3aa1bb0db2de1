/** Elements of the page: texts, lamps, buttons that say why they do not work, notices and questions. */

export const $ = (id) => document.getElementById(id);

export function text(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

/** mark: good, busy, bad or idle; each has its own shape beside its colour. */
export function lamp(id, mark, words) {
  const element = $(id);
  element.dataset.mark = mark;
  text(element.querySelector("span"), words);
}

/** why: what keeps the button from working, said to whoever presses it; empty: it works. */
export function off(button, why) {
  button.setAttribute("aria-disabled", String(why !== ""));
  button.dataset.why = why;
  button.title = why && `Not now: ${why}`;
}

/** Whether a button works; whoever pressed it, or its key, is told what is in the way. */
export function works(button) {
  const why = button.dataset.why ?? "";
  if (why) notice("warning", `${button.firstChild.textContent.trim()}: not now, ${why}.`);
  return why === "";
}

export function notice(level, words) {
  const kind = (said) => said.replace(/[0-9.]+/g, "#"); // the same with another number is no second notice
  for (const item of [...$("notices").children]) if (kind(item.textContent.slice(2)) === kind(words)) item.remove();
  const item = document.createElement("li");
  item.dataset.level = level;
  item.textContent = `${{ info: "✓", warning: "!", error: "✗" }[level]} ${words}`;
  $("notices").prepend(item);
  while ($("notices").children.length > 5) $("notices").lastChild.remove();
  setTimeout(() => item.remove(), level === "error" ? 30000 : 10000);
}

export function banner(words, level = "bad") {
  $("banner").hidden = !words;
  $("banner").dataset.level = level;
  text($("banner"), words);
}

export function ask(words) {
  text($("ask-text"), words);
  const dialog = $("ask");
  dialog.returnValue = "no";
  dialog.showModal();
  $("ask-no").focus();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}

export function showItems(items, trouble) {
  const element = $("faults");
  if (element.dataset.words === JSON.stringify(items)) return;
  element.dataset.words = JSON.stringify(items);
  element.replaceChildren(...items.map((words) => Object.assign(document.createElement("li"), { textContent: words })));
  element.classList.toggle("trouble", trouble);
}

/** Buttons that are off say why; a second finger presses, too; and what was used does not keep the keys that drive. */
export function hearPresses() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("main button");
    if (!button || works(button)) return;
    button.blur();
    event.stopPropagation();
  }, { capture: true });
  document.addEventListener("click", (event) => event.target.closest("button")?.blur());
  document.addEventListener("change", (event) => {
    if (event.target.closest("main") && !event.target.closest("#trial, #episodes")) event.target.blur();
  });
  const taps = new Map(); // of further fingers: a browser makes no click of them while the first one drives
  document.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary) taps.set(event.pointerId, event.target.closest("main button"));
  });
  document.addEventListener("pointercancel", (event) => taps.delete(event.pointerId));
  document.addEventListener("pointerup", (event) => {
    const button = taps.get(event.pointerId);
    taps.delete(event.pointerId);
    if (button && button === document.elementFromPoint(event.clientX, event.clientY)?.closest("button")) button.click();
  });
}
