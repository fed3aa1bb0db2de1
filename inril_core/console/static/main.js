/** The operator's page: who has control, what they drive, and what its buttons ask. */

import { Link } from "/static/link.js";
import { Inputs } from "/static/drive.js";
import { Plots } from "/static/plots.js";
import { $, ask, banner, hearPresses, lamp, notice, off, showItems, text, works } from "/static/ui.js";
import { cameraBox, showAges, showFrame, showWanted } from "/static/cameras.js";
import { Labels } from "/static/labels.js";
import { showLinks, showObserved, showPolicy, showPose } from "/static/readouts.js";

const now = { welcome: null, control: null, safety: null, session: null, policy: null, pose: null };
const WORDS = ["success", "failure", "discard", "redo", "pause", "resume", "ready"];
const RELEASE_MS = { least: 500, most: 5000 };
const FOLLOWS_MS = 5000; // the arm follows within a tick; longer, something is in the way
const NO_CONNECTION = "Connection lost. If you were driving, the arm holds. Connecting again…";
const ARMING_MS = 16000; // the arbiter waits for the arm's watchdog
const NEEDS_A_SECOND_LOOK = { discard: "Discard this episode? It does not count and is done again.",
  redo: "Do the episode again? The running one, or else the last one, does not count then." };

let link, plots, view, inputs, labels;
let token = "";
let driving = false; // the person has taken the arm with this page
let releasedAt = -1e9; // hand back with each drive message for a while, so that a lost one does not matter
let handingBack = false; // asked for, and not seen yet
let stopTrouble = ""; // of the newest stop, until one is done or the connection is back
let armAskedAt = -1e9;
let grabbedAt = 0;
let seq = 0;

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
    document.body.classList.toggle("drives", message.drives);
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
  session_state(message) {
    const before = now.session;
    const goesOn = before?.episode_id === message.episode_id && (before.state === "running") === (message.state === "running");
    if (!goesOn) inputs.gripper = null; // what was asked in another episode counts no more
    now.session = message;
    refresh();
  },
  policy_state(message) { now.policy = message; showPolicy(message); refresh(); },
  pose(message) { now.pose = message; view?.setPose(message); showPose(message); },
  observed(message) { showObserved(message, now.welcome.observation); },
  links: showLinks,
  wanted_start: showWanted,
  episodes(message) { plots.showEpisodes(message.points); labels.showEpisodes(message.points); },
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
  if (!now.welcome || !now.control || !now.safety || !now.session) return; // only what the console says now is shown
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
  $("versions").disabled = watching !== "";
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
  const counts = session.trials ? `${session.episodes} of ${session.trials} trials are done${rate}.`
    : `${session.segment}: ${session.episodes} episodes, ${session.successes} successes, ${session.failures} failures${rate}.`;
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
  labels.showSession(session, whyWatching() || (session.heard ? "" : "session_node is not heard"));
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
  document.activeElement?.blur(); // keys drive
  driving = true;
  handingBack = false;
  releasedAt = -1e9;
  grabbedAt = performance.now();
  refresh();
}

function handBack() {
  if (!works($("hand-back"))) return;
  driving = false;
  handingBack = true;
  releasedAt = performance.now();
  refresh();
}

function stopDriving() {
  driving = handingBack = false;
  releasedAt = -1e9;
  inputs.letGo();
}

async function stop() {
  stopDriving();
  if ($("ask").open) $("ask").close("no");
  refresh();
  $("stop").classList.add("pressed");
  setTimeout(() => $("stop").classList.remove("pressed"), 600);
  const answer = link ? await link.stop() : { success: false, message: "this page has not been opened with a token and a name" };
  stopTrouble = answer.success ? "" : `STOP FAILED: ${answer.message}. Press the arm's own emergency stop. `;
  if (answer.success && !link?.isOpen) notice("warning", `STOP: ${answer.message}`);
  banner(stopTrouble + (link?.isOpen ? "" : NO_CONNECTION));
}

/** 1 closes, -1 opens. */
function grip(sign) {
  if (now.welcome && !now.welcome.has_gripper) return;
  if (works($(sign > 0 ? "gripper-close" : "gripper-open"))) inputs.gripper = sign;
}

async function say(word) {
  const button = document.querySelector(`#words button[data-word="${word}"]`);
  if (!works(button)) return;
  const episode_id = ["success", "failure", "discard"].includes(word) ? now.session.episode_id : "";
  if (word in NEEDS_A_SECOND_LOOK && !(await ask(NEEDS_A_SECOND_LOOK[word]))) return;
  link.send({ kind: "session_word", word, episode_id });
}

function label(episode_id, word, tag) {
  link.send({ kind: "label", episode_id, label: word, tag });
}

/** Until it is done, and at least for a moment. */
function releases() {
  const since = performance.now() - releasedAt;
  return !driving && since < (personDrives() ? RELEASE_MS.most : RELEASE_MS.least);
}

function tick() {
  link?.watch();
  showAges(now.session?.segment, now.safety?.simulated);
  if (driving && !personDrives() && performance.now() - grabbedAt > FOLLOWS_MS) {
    stopDriving();
    notice("error", now.safety?.armed ? "The arm does not follow you; see its faults, and Links." : "The arm is not armed. Look, arm it, then press Drive.");
    refresh();
  }
  handingBack &&= personDrives();
  if (handingBack && performance.now() - releasedAt > RELEASE_MS.most) {
    handingBack = false;
    notice("error", "The arm is not handed back: a person still has it, and it holds. Press Hand back again; if that fails, see Links.");
  }
  const asked = inputs.motion(Number($("speed").value)); // a gamepad stops the arm from a page that only watches, too
  if (!link?.isOpen || !iHold()) return;
  const motion = driving ? asked : [0, 0, 0, 0, 0, 0];
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
  for (const part of ["welcome", "control", "safety", "session"]) now[part] = null;
  document.body.classList.remove("holds", "driving");
  for (const id of ["holder", "drive-text", "session-text", "policy-text"]) text($(id), "Not known: there is no connection.");
  showItems(["Not known: there is no connection."], true);
  text($("arm"), "Arm");
  allOff("there is no connection");
  labels.off("there is no connection");
  lamp("lamp-connection", "bad", "No connection");
  for (const id of ["lamp-armed", "lamp-control", "lamp-session"]) lamp(id, "idle", "Not known");
  banner(stopTrouble + NO_CONNECTION + (words ? ` (${words})` : ""));
}

function allOff(why) {
  for (const button of document.querySelectorAll("main button")) off(button, why);
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
    frame: (head, blob) => showFrame(head, blob, (frame_id) => link.send({ kind: "frame_shown", frame_id })),
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
  labels = new Labels(label);
  allOff("the console has not answered yet");
  inputs = new Inputs({ drive, handBack, stop, close: () => grip(1), open: () => grip(-1),
    word: (number) => say(WORDS[number - 1]), label: () => labels.choose() });
  $("stop").addEventListener("pointerdown", stop); // no click comes of a finger that slides off, nor of a second finger
  $("stop").addEventListener("click", (event) => { if (event.detail === 0) stop(); }); // Enter
  $("take").addEventListener("click", takeControl);
  $("give-up").addEventListener("click", () => { handBackFirst(); });
  $("drive").addEventListener("click", drive);
  $("hand-back").addEventListener("click", handBack);
  $("gripper-close").addEventListener("click", () => grip(1));
  $("gripper-open").addEventListener("click", () => grip(-1));
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
  hearPresses();
  $("view-on").checked = localStorage.getItem("inril 3-D view") !== "off";
  $("view-on").addEventListener("change", foldView);
  foldView();
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

function foldView() {
  const on = $("view-on").checked;
  localStorage.setItem("inril 3-D view", on ? "on" : "off");
  $("view3d").hidden = !on; // what has no size is not drawn
}

async function handBackFirst() {
  if ((driving || personDrives()) && !(await ask("You have the arm. It holds and nobody drives it until somebody takes control. Go on?"))) return;
  stopDriving();
  link.send({ kind: "give_up_control" });
}

begin();
