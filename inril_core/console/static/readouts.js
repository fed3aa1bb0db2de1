/** What the graph says and nobody presses: policy, pose, observation and links. */

import { $, text } from "/static/ui.js";

export function showPolicy(policy) {
  let words = policy.heard ? (policy.active_n >= 0 ? `Version ${policy.active_n} acts.` : "No version acts yet.") : "No policy is heard.";
  if (policy.pending_n >= 0) words += ` Version ${policy.pending_n} waits for the next episode.`;
  if (policy.pinned) words += " Pinned: newer versions are not let in.";
  if (policy.heard) words += ` ${policy.accepted} accepted, ${policy.rejected} refused.`;
  if (policy.last_rejection) words += ` Last refused: version ${policy.last_rejected_n}, because ${policy.last_rejection.replaceAll("_", " ")}.`;
  if (policy.learner) words += ` Learner: ${policy.learner}, ${policy.updates} updates.`;
  text($("policy-text"), words);
  $("unpin").hidden = !policy.pinned;
  const list = policy.versions.filter((version) => version.n !== policy.active_n).reverse();
  const key = JSON.stringify(list);
  if ($("versions").dataset.key === key) return;
  $("versions").dataset.key = key;
  $("versions").replaceChildren(...list.map((version) =>
    Object.assign(document.createElement("option"), { value: JSON.stringify(version), textContent: `version ${version.n}` })));
}

const COMMAND_S = 1; // a Target that is older commands nothing: the arm's watchdog ends it long before

export const isCommanded = (pose) => pose.commanded.length > 0 && pose.commanded_age_s <= COMMAND_S;

export function showPose(pose) {
  if (!pose.measured.length) return;
  const mm = (values) => values.slice(0, 3).map((value) => Math.round(value * 1000)).join(" ");
  const apart = isCommanded(pose) ? Math.hypot(...[0, 1, 2].map((i) => pose.commanded[i] - pose.measured[i])) * 1000 : null;
  const age = pose.age_s > 1 ? `, ${Math.round(pose.age_s)} s old` : "";
  text($("pose-text"), `tool ${mm(pose.measured)} mm${age}; ${apart === null ? "nothing is commanded" : `command ${apart.toFixed(0)} mm away`}`);
}

/** observation: the fields of the contract, in order. */
export function showObserved(message, observation) {
  if (!$("observed-details").open) return;
  text($("observed-text"), `${message.purpose}, step ${message.step}`);
  let at = 0;
  const rows = observation.map(({ name, size, unit }) => {
    const values = message.values.slice(at, at += size).map((value) => (value === null ? "not finite" : value.toFixed(4)));
    const tr = document.createElement("tr");
    for (const words of [name, values.join("  "), unit]) tr.append(Object.assign(document.createElement("td"), { textContent: words }));
    return tr;
  });
  $("observed").replaceChildren(...rows);
}

export function showLinks(message) {
  const signs = { ok: "● ok", warning: "▲ look", error: "■ error", stale: "■ silent" };
  const bad = message.lines.filter((line) => line.level === "error" || line.level === "stale");
  text($("links-summary"), bad.length ? `■ ${bad.length} in trouble: ${bad[0].node} ${bad[0].name}` : `● all ${message.lines.length} well`);
  if (!$("links-details").open) return;
  const cell = (tag, words) => Object.assign(document.createElement(tag), { textContent: words });
  const row = (tag, words) => { const tr = document.createElement("tr"); tr.append(...words.map((word) => cell(tag, word))); return tr; };
  const number = (value, unit) => (value === null ? "" : `${value.toFixed(value < 10 ? 2 : 0)} ${unit}`);
  $("links").replaceChildren(row("th", ["node", "link", "state", "rate", "age", "lost"]), ...message.lines.map((line) =>
    row("td", [line.node, line.name, line.level === "ok" ? signs.ok : `${signs[line.level]}: ${line.message}`.slice(0, 120),
      number(line.rate_hz, "Hz"), number(line.age_s, "s"), line.rate_hz === null ? "" : String(line.drops)])));
}
