/** The operator's page: what it shows and what its buttons ask. */

import { Link } from "/static/link.js";
import { Inputs } from "/static/drive.js";
import { Plots } from "/static/plots.js";

const $ = (id) => document.getElementById(id);
const now = { welcome: null, control: null, safety: null, session: null, policy: null, pose: null };
const WORDS = ["success", "failure", "discard", "redo", "pause", "resume", "ready"];
const RELEASE_MS = { least: 500, most: 5000 };
const FOLLOWS_MS = 5000; // the arm follows within a tick; longer, something is in the way
const NO_CONNECTION = "Connection lost. If you were driving, the arm holds. Connecting again…";
const ARMING_MS = 16000; // the arbiter waits for the arm's watchdog
const NEEDS_A_SECOND_LOOK = { discard: "Discard this episode? It does not count and is done again.",
  redo: "Do the episode again? The running one, or else the last one, does not count then." };

let link, plots, view, inputs;
let token = "";
let driving = false; // the person has taken the arm with this page
let releasedAt = -1e9; // hand back with each drive message for a while, so that a lost one does not matter
let stopTrouble = ""; // of the newest stop, until one is done or the connection is back
let armAskedAt = -1e9;
let grabbedAt = 0;
let seq = 0;

// What the page says

function text(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

/** mark: good, busy, bad or idle; each has its own shape beside its colour. */
function lamp(id, mark, words) {
  const element = $(id);
  element.dataset.mark = mark;
  text(element.querySelector("span"), words);
}

/** why: what keeps the button from working, said to whoever presses it; empty: it works. */
function off(button, why) {
  button.setAttribute("aria-disabled", String(why !== ""));
  button.dataset.why = why;
  button.title = why && `Not now: ${why}`;
}

/** Whether a button works; whoever pressed it, or its key, is told what is in the way. */
function works(button) {
  const why = button.dataset.why ?? "";
  if (why) notice("warning", `${button.firstChild.textContent.trim()}: not now, ${why}.`);
  return why === "";
}

function notice(level, words) {
  const kind = (said) => said.replace(/[0-9.]+/g, "#"); // the same with another number is no second notice
  for (const item of [...$("notices").children]) if (kind(item.textContent.slice(2)) === kind(words)) item.remove();
  const item = document.createElement("li");
  item.dataset.level = level;
  item.textContent = `${{ info: "✓", warning: "!", error: "✗" }[level]} ${words}`;
  $("notices").prepend(item);
  while ($("notices").children.length > 5) $("notices").lastChild.remove();
  setTimeout(() => item.remove(), level === "error" ? 30000 : 10000);
}

function banner(words, level = "bad") {
  $("banner").hidden = !words;
  $("banner").dataset.level = level;
  text($("banner"), words);
}

function ask(words) {
  text($("ask-text"), words);
  const dialog = $("ask");
  dialog.returnValue = "no";
  dialog.showModal();
  $("ask-no").focus();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}

// What it knows

const iHold = () => now.control !== null && now.control.holder_id !== "" && now.control.holder_id === now.welcome?.client_id;
const personDrives = () => now.safety?.in_control === "human";

const show = {
  welcome(message) {
    now.welcome = message;
    link.silentMs = Math.max(2000, 4000 * message.drive_timeout_s);
    text($("task"), message.namespace ? `${message.task} (${message.namespace})` : message.task);
    text($("run"), `run ${message.run_id}, you are ${message.name}`);
    document.body.classList.toggle("has-gripper", message.has_gripper);
    view?.setLimits(message.position_min_m, message.position_max_m);
    for (const camera of message.cameras) cameraBox(camera.name).purposes = camera.purposes;
    refresh();
  },
  control(message) {
    const before = now.control;
    now.control = message;
    if (before && before.holder_id === now.welcome?.client_id && !iHold()) stopDriving();
    refresh();
  },
  safety(message) {
    now.safety = message;
    showFaults(message.faults);
    refresh();
  },
  session_state(message) { now.session = message; refresh(); },
  policy_state(message) { now.policy = message; showPolicy(message); refresh(); },
  pose(message) { now.pose = message; showPose(message); },
  observed: showObserved,
  links: showLinks,
  episodes(message) { plots.showEpisodes(message.points); showLabels(message.points); },
  disagreement(message) { plots.showDisagreement(message); },
  notice(message) {
    if (message.asked === "ArmAgain") armAskedAt = -1e9;
    if (message.asked === "Drive") driveTrouble = { at: performance.now(), words: message.text };
    notice(message.level, message.text);
    refresh();
  },
};

let driveTrouble = { at: -1e9, words: "" };

function refresh() {
  if (!now.welcome || !now.safety || !now.session) return;
  showLamps();
  showControl();
  showDriving();
  showSession();
}

function showLamps() {
  const { safety, session } = now;
  if (safety) {
    const trouble = safety.faults.length > 0 || safety.needs_rearm;
    if (!safety.heard) lamp("lamp-armed", "bad", "Arbiter not heard");
    else if (safety.armed) lamp("lamp-armed", trouble ? "bad" : "good", trouble ? "Fault: arm holds" : "Armed");
    else lamp("lamp-armed", safety.faults.length ? "bad" : "idle", safety.faults.length ? "Fault, not armed" : "Not armed");
    const who = { policy: ["busy", "Policy drives"], human: ["good", "Person drives"], hold: ["idle", "Arm holds"], reset: ["busy", "Reset moves the arm"] };
    lamp("lamp-control", ...(safety.heard ? who[safety.in_control] ?? ["bad", safety.in_control] : ["bad", "Not known"]));
  }
  if (session) {
    const mark = !session.heard ? "bad" : session.state === "running" ? "busy" : session.waits_for_person ? "bad" : "idle";
    const words = { running: `Episode runs (${session.segment})`, waiting: "Session waits", paused: "Paused", resetting: "Cell is laid out",
      arming: "Arming", beginning: "Episode begins", ending: "Episode ends", recording: "Writing to disk", done: "Session is over" };
    lamp("lamp-session", mark, session.heard ? words[session.state] ?? session.state : "Session not heard");
  }
}

function showControl() {
  const { control, welcome } = now;
  if (!control) return;
  const others = Math.max(0, control.pages - 1);
  const watch = others ? `, ${others} other page${others > 1 ? "s" : ""} open` : "";
  let words = `Nobody has control${watch}. Everybody may press STOP.`;
  if (iHold()) words = `You, ${welcome.name}, have control${watch}.`;
  else if (control.holder_id) words = `${control.holder} has control${control.holder_present ? "" : ", but that page is gone"}. You watch${watch}.`;
  text($("holder"), words);
  const safety = now.safety;
  const fine = safety?.heard && safety.armed && safety.faults.length === 0 && !safety.needs_rearm;
  text($("arm"), fine ? "Armed" : "Arm");
  for (const id of ["take", "give-up"]) off($(id), "");
  $("take").hidden = iHold();
  $("give-up").hidden = !iHold();
  document.body.classList.toggle("holds", iHold());
  const watching = whyWatching();
  const arming = performance.now() - armAskedAt < ARMING_MS ? "the arbiter has been asked and waits for the arm" : "";
  off($("arm"), watching || (fine ? "it is armed" : arming));
  off($("roll-back"), watching || ($("versions").value ? "" : "no other version is kept"));
  off($("unpin"), watching);
  for (const choice of document.querySelectorAll("#versions, #episodes select")) choice.disabled = watching !== "";
}

/** Why this page may only watch; empty: it has control. */
function whyWatching() {
  if (iHold()) return "";
  return now.control?.holder_id ? `${now.control.holder} has control; take control first` : "take control first";
}

function showDriving() {
  const { safety, welcome } = now;
  const page = welcome.drives;
  let words = `The graph's input device is ${welcome.device || "none"}, not this page (device:=browser).`;
  if (page && !iHold()) words = "Take control of the console first, then drive the arm.";
  else if (page && performance.now() - driveTrouble.at < 2000) words = driveTrouble.words;
  else if (page && driving && personDrives()) words = "You drive. Hold keys or drag a pad; let go and the arm holds.";
  else if (page && driving) words = "You take the arm…";
  else if (page && safety.device_trouble) words = `The page cannot drive yet: ${safety.device_trouble}.`;
  else if (page && safety.faults.length) words = "A fault holds the arm. Look at it, arm it, then drive.";
  else if (page && !safety.armed) words = "The arm is not armed. Look at it, arm it, then drive.";
  else if (page && personDrives()) words = "A person has the arm and it holds. Drive on, or hand it back.";
  else if (page) words = "Press Drive to take the arm. It holds wherever you do not move it.";
  text($("drive-text"), words);
  const device = page ? "" : `the graph's input device is ${welcome.device || "none"}, not this page`;
  off($("drive"), device || whyWatching() || (driving ? "you drive already" : ""));
  off($("hand-back"), device || whyWatching() || (driving || personDrives() ? "" : "no person has the arm"));
  for (const button of document.querySelectorAll(".gripper")) off(button, device || whyWatching() || (driving ? "" : "you do not drive"));
  document.body.classList.toggle("driving", driving);
}

function showSession() {
  const { session, safety } = now;
  if (!session) return;
  const rate = session.steps_per_s === null ? "" : `, ${session.steps_per_s} steps/s`;
  const counts = `${session.segment}: ${session.episodes} episodes, ${session.successes} successes, ${session.failures} failures${rate}.`;
  let words = session.heard ? counts : "session_node is not heard. STOP still works.";
  if (session.heard && session.waiting_for) words += ` Waits for: ${session.waiting_for}.`;
  if (session.reset_text) words += ` Reset: ${session.reset_text}.`;
  if (session.heard) words += !["", "idle", "recording"].includes(session.recorder) ? ` Recorder: ${session.recorder}${session.recorder_reason ? ` (${session.recorder_reason})` : ""}.` : "";
  text($("session-text"), words);
  const runs = ["running", "ending", "recording"].includes(session.state) ? "" : "no episode runs";
  const paused = session.state === "paused";
  for (const button of document.querySelectorAll("#words button")) {
    const word = button.dataset.word;
    const why = { success: runs, failure: runs, discard: runs, redo: "", pause: paused ? "the session is paused" : "",
      resume: paused ? "" : "the session is not paused", ready: session.state === "resetting" ? "" : "no reset waits for you" };
    off(button, whyWatching() || (session.heard ? why[word] : "session_node is not heard"));
  }
  const next = session.state === "running" && safety && !personDrives() && session.segment !== "demo";
  text($("arm-note"), safety && !safety.armed && next ? "After arming, the policy drives on at once." : "");
}

function showFaults(faults) {
  const list = faults.map((fault) => `${fault.name.replaceAll("_", " ")}: ${fault.detail}`);
  if (now.safety.needs_rearm) list.push("The arm's own watchdog holds it: look at the arm, then arm.");
  if (!now.safety.heard) list.push("The arbiter is not heard: nothing is commanded, and the arm's own watchdog holds it.");
  const none = now.safety.armed ? "No fault." : "No fault. The arm is not armed: nothing moves until a person arms.";
  showItems(list.length ? list : [none], list.length > 0);
}

function showItems(items, trouble) {
  const element = $("faults");
  if (element.dataset.words === JSON.stringify(items)) return;
  element.dataset.words = JSON.stringify(items);
  element.replaceChildren(...items.map((words) => Object.assign(document.createElement("li"), { textContent: words })));
  element.classList.toggle("trouble", trouble);
}

function showPolicy(policy) {
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

function showPose(pose) {
  view?.setPose(pose);
  if (!pose.measured.length) return;
  const mm = (values) => values.slice(0, 3).map((value) => Math.round(value * 1000)).join(" ");
  const apart = pose.commanded.length ? Math.hypot(...[0, 1, 2].map((i) => pose.commanded[i] - pose.measured[i])) * 1000 : null;
  const age = pose.age_s > 1 ? `, ${Math.round(pose.age_s)} s old` : "";
  text($("pose-text"), `tool ${mm(pose.measured)} mm${age}${apart === null ? "" : `; command ${apart.toFixed(0)} mm away`}`);
}

function showObserved(message) {
  if (!$("observed-details").open) return;
  text($("observed-text"), `${message.purpose}, step ${message.step}`);
  let at = 0;
  const rows = now.welcome.observation.map(({ name, size, unit }) => {
    const values = message.values.slice(at, at += size).map((value) => (value === null ? "not finite" : value.toFixed(4)));
    const tr = document.createElement("tr");
    for (const words of [name, values.join("  "), unit]) tr.append(Object.assign(document.createElement("td"), { textContent: words }));
    return tr;
  });
  $("observed").replaceChildren(...rows);
}

function showLinks(message) {
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

function showLabels(points) {
  const rows = points.slice(-8).reverse().map((point) => {
    const tr = document.createElement("tr");
    const share = point.human_share === null ? "" : `${Math.round(point.human_share * 100)} % person`;
    const said = !point.valid ? "– does not count" : point.success ? "✓ success" : "✗ failure";
    for (const words of [point.episode_id, point.purpose, said, `${point.steps} steps`, share])
      tr.append(Object.assign(document.createElement("td"), { textContent: words }));
    const choice = document.createElement("select");
    choice.disabled = !iHold();
    for (const word of ["change label", "success", "failure"]) choice.append(new Option(word, word));
    choice.addEventListener("change", () => { link.send({ kind: "label", episode_id: point.episode_id, label: choice.value }); choice.selectedIndex = 0; });
    const last = document.createElement("td");
    last.append(choice);
    tr.append(last);
    return tr;
  });
  $("episodes").replaceChildren(...rows);
}

// Cameras

const cameras = new Map();

function cameraBox(name) {
  if (cameras.has(name)) return cameras.get(name);
  const figure = document.createElement("figure");
  const image = document.createElement("img");
  const caption = document.createElement("figcaption");
  image.alt = `camera ${name}`;
  figure.append(image, caption);
  $("cameras").append(figure);
  const box = { figure, image, caption, taken: null, url: "", purposes: [] };
  cameras.set(name, box);
  return box;
}

function showFrame(head, blob) {
  const box = cameraBox(head.camera);
  const url = URL.createObjectURL(blob);
  box.image.onload = box.image.onerror = () => {
    if (box.url) URL.revokeObjectURL(box.url);
    box.url = url;
    link.send({ kind: "frame_shown", frame_id: head.frame_id });
  };
  box.image.src = url;
  box.taken = performance.now() - head.age_s * 1000;
}

function showAges() {
  for (const [name, box] of cameras) {
    const age = box.taken === null ? null : (performance.now() - box.taken) / 1000;
    const segment = now.session?.segment;
    const drawn = !now.safety?.simulated || !segment || box.purposes.includes(segment);
    const why = drawn ? "" : ` (the contract's recorded_in of this camera lacks ${segment})`;
    text(box.caption, age === null ? `▲ ${name}: no picture yet${why}` : age < 1 ? `${name}: ${age.toFixed(1)} s old` : `▲ ${name}: OLD PICTURE, ${Math.round(age)} s${why}`);
    box.figure.classList.toggle("old", age === null || age >= 1);
  }
}

// What the person asks

async function takeControl() {
  const { control } = now;
  if (!control || iHold()) return;
  const from_id = control.holder_id;
  if (from_id && !(await ask(`${control.holder} has control${control.holder_present ? " and will be told" : ", but that page is gone"}. Take control?`))) return;
  link.send({ kind: "take_control", from_id });
}

function drive() {
  if (!works($("drive"))) return;
  inputs.letGo();
  inputs.gripper = null;
  driving = true;
  releasedAt = -1e9;
  grabbedAt = performance.now();
  refresh();
}

function handBack() {
  if (!works($("hand-back"))) return;
  driving = false;
  releasedAt = performance.now();
  refresh();
}

function stopDriving() {
  driving = false;
  releasedAt = -1e9;
  inputs.letGo();
}

async function stop() {
  stopDriving();
  refresh();
  $("stop").classList.add("pressed");
  setTimeout(() => $("stop").classList.remove("pressed"), 600);
  const answer = await link.stop();
  stopTrouble = answer.success ? "" : `STOP FAILED: ${answer.message}. Press the arm's own emergency stop. `;
  if (answer.success && !link.isOpen) notice("warning", `STOP: ${answer.message}`);
  banner(stopTrouble + (link.isOpen ? "" : NO_CONNECTION));
}

async function say(word) {
  const button = document.querySelector(`#words button[data-word="${word}"]`);
  if (!works(button)) return;
  const episode_id = ["success", "failure", "discard"].includes(word) ? now.session.episode_id : "";
  if (word in NEEDS_A_SECOND_LOOK && !(await ask(NEEDS_A_SECOND_LOOK[word]))) return;
  link.send({ kind: "session_word", word, episode_id });
}

/** Until it is done, and at least for a moment. */
function releases() {
  const since = performance.now() - releasedAt;
  return !driving && since < (personDrives() ? RELEASE_MS.most : RELEASE_MS.least);
}

function tick() {
  link?.watch();
  showAges();
  if (driving && !personDrives() && performance.now() - grabbedAt > FOLLOWS_MS) {
    stopDriving();
    notice("error", now.safety?.armed ? "The arm does not follow you; see its faults, and Links." : "The arm is not armed. Look, arm it, then press Drive.");
    refresh();
  }
  if (!link?.isOpen || !iHold()) return;
  const motion = driving ? inputs.motion(Number($("speed").value)) : [0, 0, 0, 0, 0, 0];
  if (!driving && !document.hidden) inputs.gamepad();
  link.send({ kind: "drive", seq: seq++, beat: link.beat, motion, gripper: driving && now.welcome.has_gripper ? inputs.gripper : null, grab: driving,
    release: releases() });
}

function connection(name, words) {
  stopDriving();
  if (name === "refused") {
    token = "";
    sessionStorage.removeItem("inril token");
    askWho(words);
    return;
  }
  now.control = null;
  document.body.classList.remove("holds", "driving");
  for (const id of ["holder", "drive-text", "session-text", "policy-text"]) text($(id), "Not known: there is no connection.");
  showItems(["Not known: there is no connection."], true);
  text($("arm"), "Arm");
  for (const button of document.querySelectorAll("main button")) off(button, "there is no connection");
  lamp("lamp-connection", "bad", "No connection");
  for (const id of ["lamp-armed", "lamp-control", "lamp-session"]) lamp(id, "idle", "Not known");
  banner(stopTrouble + NO_CONNECTION + (words ? ` (${words})` : ""));
}

function start(name) {
  localStorage.setItem("inril name", name);
  sessionStorage.setItem("inril token", token);
  link = new Link({
    message(message) {
      if (message.kind === "welcome") {
        lamp("lamp-connection", "good", "Connected");
        stopTrouble = "";
        banner("");
        seq = 0;
      }
      show[message.kind]?.(message);
    },
    frame: showFrame,
    state: connection,
  });
  link.open(token, name);
}

function askWho(words = "") {
  text($("who-text"), words);
  $("token-label").hidden = token !== "";
  $("name").value = localStorage.getItem("inril name") ?? "";
  const dialog = $("who");
  if (!dialog.open) dialog.showModal();
  dialog.onclose = () => {
    token = token || $("token").value.trim();
    const name = $("name").value.trim();
    if (token && name) start(name);
    else askWho("Both are needed.");
  };
}

function begin() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) history.replaceState(null, "", location.pathname);
  token = given ?? sessionStorage.getItem("inril token") ?? "";
  plots = new Plots();
  inputs = new Inputs({ drive, handBack, stop, word: (number) => say(WORDS[number - 1]) });
  $("stop").addEventListener("click", stop);
  $("take").addEventListener("click", takeControl);
  $("give-up").addEventListener("click", () => { handBackFirst(); });
  $("drive").addEventListener("click", drive);
  $("hand-back").addEventListener("click", handBack);
  $("gripper-close").addEventListener("click", () => { inputs.gripper = 1; });
  $("gripper-open").addEventListener("click", () => { inputs.gripper = -1; });
  $("arm").addEventListener("click", () => {
    armAskedAt = performance.now();
    link.send({ kind: "arm_again" });
    refresh();
  });
  $("roll-back").addEventListener("click", async () => {
    const version = JSON.parse($("versions").value);
    if (await ask(`Let version ${version.n} act from the next episode on, and keep newer ones out?`)) link.send({ kind: "roll_back_to", ...version });
  });
  $("unpin").addEventListener("click", () => link.send({ kind: "unpin" }));
  for (const button of document.querySelectorAll("#words button")) button.addEventListener("click", () => say(button.dataset.word));
  document.addEventListener("click", (event) => {
    const button = event.target.closest("main button");
    if (!button || works(button)) return;
    button.blur();
    event.stopPropagation();
  }, { capture: true });
  // a button that keeps the focus would swallow the keys that drive
  document.addEventListener("click", (event) => { if (event.target.closest("button")) event.target.closest("button").blur(); });
  new Worker("/static/ticker.js").onmessage = tick;
  import("/static/view3d.js").then(async ({ ArmView }) => {
    view = new ArmView($("view3d"));
    const answer = await fetch("/robot.urdf");
    if (answer.ok) view.setRobot(await answer.text());
    if (now.welcome) view.setLimits(now.welcome.position_min_m, now.welcome.position_max_m);
    if (now.pose) view.setPose(now.pose);
  }).catch((error) => notice("warning", `No 3-D view: ${error.message}`));
  const known = localStorage.getItem("inril name");
  if (token && known) start(known);
  else askWho();
}

async function handBackFirst() {
  if ((driving || personDrives()) && !(await ask("You have the arm. It holds and nobody drives it until somebody takes control. Go on?"))) return;
  stopDriving();
  link.send({ kind: "give_up_control" });
}

begin();
