/** What was said of the last episodes, by whom, and what a person says of them now. */

import { $, off, text, works } from "/static/ui.js";

const SHOWN_N = 8;
const NOBODY = { cell: "says the task", episode_length: "at the time limit", safety: "says the arm's safety", session: "says the session" };

export function outcomeWords(point) {
  if (!point.valid) return "– does not count";
  const outcome = point.success ? "✓ success" : "✗ failure";
  const who = point.by === "" ? "" : `, ${NOBODY[point.by] ?? `says ${point.by}`}`;
  const overruled = point.task_says && (point.task_says === "success") !== point.success ? ` (the task: ${point.task_says})` : "";
  return `${outcome}${point.tag ? `: ${point.tag}` : ""}${who}${overruled}`;
}

const cell = (words) => Object.assign(document.createElement("td"), { textContent: words });

/** Words to choose from, and the button that says the chosen one: until it is pressed nothing is said. */
class Choice {
  /** say: called with the episode, the label and the tag. */
  constructor(say) {
    this.say = say;
    this.point = null;
    this.dropped = () => {}; // called when it is free for another episode
    this.why = "";
    this.select = document.createElement("select");
    this.button = Object.assign(document.createElement("button"), { textContent: "Say so" });
    this.select.addEventListener("input", () => this.refresh());
    this.select.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.press();
      else if (event.key === "Escape") this.drop();
      else return;
      event.preventDefault();
    });
    this.button.addEventListener("click", () => this.press());
  }

  /** Somebody is about to say something of its episode. */
  get isUsed() {
    return this.select.value !== "" || document.activeElement === this.select;
  }

  show(point, tags) {
    this.point = point;
    this.select.setAttribute("aria-label", `what you say of episode ${point.episode_id}`);
    if (this.select.dataset.tags !== JSON.stringify(tags)) {
      this.select.dataset.tags = JSON.stringify(tags);
      const option = (words, label, tag = "") => new Option(words, label && JSON.stringify([label, tag]));
      this.select.replaceChildren(option("label…", ""), option("success", "success"), option("failure", "failure"),
        ...tags.map((tag) => option(`failure: ${tag}`, "failure", tag)), option("take labels back", "unknown"));
    }
    this.refresh();
  }

  /** why: nothing can be said now; empty: it can. */
  off(why) {
    this.why = why;
    this.refresh();
  }

  refresh() {
    this.select.disabled = this.why !== "";
    this.select.title = this.why && `Not now: ${this.why}`;
    off(this.button, this.why || (this.select.value ? "" : "choose what to say first"));
  }

  press() {
    if (!works(this.button)) return;
    const said = [this.point.episode_id, ...JSON.parse(this.select.value)];
    this.drop();
    this.say(...said);
  }

  drop() {
    this.select.value = "";
    this.select.blur();
    this.refresh();
    this.dropped();
  }
}

export class Labels {
  /** say: see Choice. */
  constructor(say) {
    this.say = say;
    this.points = [];
    this.tags = [];
    this.trials = 0;
    this.why = "the console has not answered yet";
    this.rows = new Map();
    this.trial = new Choice(say);
    this.trial.dropped = () => this.showTrial();
    this.trial.select.id = "said";
    this.trial.button.id = "say-so";
    $("trial-row").append(this.trial.select, this.trial.button);
  }

  showEpisodes(points) {
    this.points = points;
    this.refresh();
  }

  /** why: this page may not label now; empty: it may. */
  showSession(session, why) {
    this.tags = session.failure_tags;
    this.trials = session.trials;
    this.off(why);
    this.refresh();
  }

  off(why) {
    this.why = why;
    for (const choice of [this.trial, ...[...this.rows.values()].map((row) => row.choice)]) choice.off(this.whyNot(choice.point));
  }

  whyNot(point) {
    return this.why || (this.trials && point && !point.valid ? "it does not count and is done again" : "");
  }

  /** A key asks for the choice of the newest trial. */
  choose() {
    if (!$("trial").hidden) this.trial.select.focus();
  }

  refresh() {
    this.showTable();
    this.showTrial();
  }

  /** Rows stay where they are as others come: a person may be in the middle of a choice. */
  showTable() {
    const shown = this.points.slice(-SHOWN_N);
    const ids = new Set(shown.map((point) => point.episode_id));
    for (const [id, row] of this.rows) {
      if (ids.has(id)) continue;
      row.tr.remove();
      this.rows.delete(id);
    }
    for (const point of shown) this.showRow(point);
  }

  showRow(point) {
    let row = this.rows.get(point.episode_id);
    if (!row) {
      row = { tr: document.createElement("tr"), cells: Array.from({ length: 5 }, () => cell("")), choice: new Choice(this.say) };
      const last = cell("");
      last.append(row.choice.select, row.choice.button);
      row.tr.append(...row.cells, last);
      $("episodes").prepend(row.tr);
      this.rows.set(point.episode_id, row);
    }
    const share = point.human_share === null ? "" : `${Math.round(point.human_share * 100)} % person`;
    const name = this.trials ? `trial ${point.index}` : point.purpose;
    [point.episode_id, name, outcomeWords(point), `${point.steps} steps`, share].forEach((words, i) => text(row.cells[i], words));
    row.choice.show(point, this.tags);
    row.choice.off(this.whyNot(point));
  }

  /** The newest trial that counts, or the one of which somebody is about to say something. */
  showTrial() {
    const used = this.trial.isUsed ? this.points.find((point) => point.episode_id === this.trial.point?.episode_id) : undefined;
    const point = used ?? this.points.findLast((one) => one.valid);
    $("trial").hidden = !this.trials || !point;
    if ($("trial").hidden) return;
    if (!used) this.trial.select.value = "";
    text($("trial-text"), `Trial ${point.index}: ${outcomeWords(point)}.`);
    this.trial.show(point, this.tags);
    this.trial.off(this.whyNot(point));
  }
}
