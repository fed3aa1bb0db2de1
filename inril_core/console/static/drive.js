/**
 * What the person does with keyboard, touch pads and gamepad, as motion in [-1, 1]:
 * x y z, then a rotation vector. Whatever makes it unsure that a key is still held counts as let go, and what was let
 * go of counts again only after a new press, a new touch, or a gamepad whose sticks were at rest once.
 */

const KEYS = {
  KeyW: [0, 1], KeyS: [0, -1], KeyA: [1, 1], KeyD: [1, -1], KeyR: [2, 1], KeyF: [2, -1],
  KeyQ: [5, 1], KeyE: [5, -1], KeyI: [4, 1], KeyK: [4, -1], KeyJ: [3, -1], KeyL: [3, 1],
  ArrowUp: [0, 1], ArrowDown: [0, -1], ArrowLeft: [1, 1], ArrowRight: [1, -1],
};
const DEAD_ZONE = 0.15;
const FINER = 0.25;
/** Held on a standard gamepad: the left stick tilts and rolls; everything is finer. */
const TILT_BUTTON = 6, FINER_BUTTON = 7;
const PAD_BUTTONS = { 0: "drive", 1: "handBack", 4: "close", 5: "open", 8: "stop" };
const nameOf = (pad) => `${pad.index} ${pad.id}`;
const question = () => document.querySelector("dialog[open]");

export class Inputs {
  /** actions: drive(), handBack(), stop(), close() and open() the gripper, word(number), label(). */
  constructor(actions) {
    this.actions = actions;
    this.held = new Set();
    this.finer = false;
    this.pads = { xy: [0, 0], zr: [0, 0], tilt: [0, 0] };
    this.lifts = []; // each ends the touch on a pad
    this.gripper = null; // 1 closes, -1 opens, null: it keeps its width
    this.gamepadUsed = ""; // the one on which a button was pressed last, or else the first
    this.gamepadRests = false; // its sticks were at rest since it came and since `letGo`
    this.pressedBefore = new Map();
    addEventListener("keydown", (event) => this.onKey(event));
    addEventListener("keyup", (event) => {
      this.finer = event.shiftKey;
      this.held.delete(event.code);
    });
    for (const name of ["blur", "pagehide", "resize"]) addEventListener(name, () => this.letGo());
    for (const name of ["resize", "scroll"]) visualViewport?.addEventListener(name, () => this.letGo()); // zoomed with two fingers
    document.addEventListener("visibilitychange", () => this.letGo());
    // an open menu or list gets the keyup in the page's place, and so does a picture that is dragged
    document.addEventListener("contextmenu", () => this.held.clear());
    document.addEventListener("pointerdown", (event) => { if (event.target.closest("select")) this.held.clear(); }, { capture: true });
    document.addEventListener("dragstart", (event) => event.preventDefault());
    for (const [name, values] of Object.entries(this.pads)) this.touch(`pad-${name}`, values);
  }

  /** Nothing is held any more, whatever still lies on a key, a pad or a stick. */
  letGo() {
    this.held.clear();
    this.finer = false;
    for (const lift of this.lifts) lift();
    this.gamepadRests = false;
  }

  onKey(event) {
    this.finer = event.shiftKey;
    const asked = question();
    if (event.code === "Space" && asked?.id !== "who") { // a name is typed there, and nothing else
      event.preventDefault();
      if (!event.repeat) this.actions.stop();
      return;
    }
    if (event.ctrlKey || event.altKey || event.metaKey) {
      this.held.clear(); // what is released meanwhile is not told by every browser
      return;
    }
    const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName) && event.target.id !== "speed";
    if (typing || asked) return;
    if (event.code in KEYS) {
      event.preventDefault();
      if (!event.repeat) this.held.add(event.code); // a key that was let go of goes on repeating
      return;
    }
    if (event.repeat) return;
    const once = {
      KeyG: () => this.actions.drive(), KeyH: () => this.actions.handBack(),
      KeyC: () => this.actions.close(), KeyV: () => this.actions.open(),
      Digit8: () => { event.preventDefault(); this.actions.label(); },
    };
    if (event.code in once) once[event.code]();
    else if (/^Digit[1-7]$/.test(event.code)) this.actions.word(Number(event.code.slice(5)));
  }

  touch(id, values) {
    const pad = document.getElementById(id);
    const knob = pad.querySelector("b");
    let pointer = null;
    let box = null; // where the pad was when the finger came: a page that moves beneath a finger must not move the arm
    const move = (event) => {
      if (event.pointerId !== pointer) return;
      const reach = box.width / 2;
      const across = Math.max(-1, Math.min(1, (event.clientX - box.left - reach) / reach));
      const up = Math.max(-1, Math.min(1, -(event.clientY - box.top - box.height / 2) / (box.height / 2)));
      values[0] = up;
      values[1] = -across;
      knob.style.transform = `translate(${across * reach * 0.7}px, ${-up * box.height * 0.35}px)`;
    };
    const lift = () => {
      pointer = null; // what the same finger does from here on is not heard
      values.fill(0);
      knob.style.transform = "";
    };
    this.lifts.push(lift);
    pad.addEventListener("pointerdown", (event) => {
      if (pointer !== null || event.button !== 0) return;
      pad.setPointerCapture(event.pointerId);
      pointer = event.pointerId;
      box = pad.getBoundingClientRect();
      move(event);
    });
    pad.addEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
      pad.addEventListener(name, (event) => { if (event.pointerId === pointer) lift(); });
    }
    pad.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  /** The sticks of the gamepad in use. */
  gamepad() {
    const there = [...(navigator.getGamepads?.() ?? [])].filter((one) => one?.connected);
    const standard = there.filter((one) => one.mapping === "standard");
    const counts = document.hasFocus() && !question(); // another window may be meant, with the same gamepad
    const before = this.gamepadUsed;
    const pressed = this.buttons(standard, counts);
    const pad = standard.find((one) => nameOf(one) === this.gamepadUsed) ?? standard[0];
    if (!pad || nameOf(pad) !== before || !counts) this.gamepadRests = false;
    this.gamepadUsed = pad ? nameOf(pad) : "";
    const axis = (index) => (Math.abs(pad?.axes[index]) > DEAD_ZONE ? pad.axes[index] : 0);
    const sticks = [0, 1, 2, 3].map(axis);
    this.gamepadRests ||= Boolean(pad) && counts && sticks.every((value) => value === 0);
    this.sayGamepad(pad, there);
    for (const name of pressed) this.actions[name]();
    if (!this.gamepadRests) return [0, 0, 0, 0, 0, 0];
    const [right, back, turned, down] = sticks;
    const tilts = pad.buttons[TILT_BUTTON]?.pressed;
    const motion = [tilts ? 0 : -back, tilts ? 0 : -right, -down, tilts ? right : 0, tilts ? -back : 0, -turned];
    return motion.map((value) => (pad.buttons[FINER_BUTTON]?.pressed ? FINER : 1) * value);
  }

  /** What the buttons ask that were pressed just now, STOP of any gamepad; one that comes pressed asks only for a STOP. */
  buttons(standard, counts) {
    const asked = new Set();
    const pressed = new Map();
    for (const pad of standard) {
      const before = this.pressedBefore.get(nameOf(pad));
      const down = Object.keys(PAD_BUTTONS).filter((index) => pad.buttons[index]?.pressed);
      pressed.set(nameOf(pad), down);
      for (const index of down.filter((one) => !before?.includes(one))) {
        if (PAD_BUTTONS[index] !== "stop" && !(before && counts)) continue;
        asked.add(PAD_BUTTONS[index]);
        if (counts) this.gamepadUsed = nameOf(pad);
      }
    }
    this.pressedBefore = pressed;
    return asked;
  }

  sayGamepad(pad, there) {
    let words = pad ? `gamepad: ${pad.id.slice(0, 30)}` : "";
    if (pad && !this.gamepadRests) words += ", let go of its sticks";
    if (!pad && there.length) words = `${there[0].id.slice(0, 30)}: not of the standard layout, not used`;
    const element = document.getElementById("gamepad");
    if (element.textContent !== words) element.textContent = words;
  }

  /** Motion now; zeros while the page is hidden or asks a question. Call it often: it also hears the gamepad's buttons. */
  motion(speed) {
    if (document.hidden) {
      this.letGo();
      this.pressedBefore.clear();
      return [0, 0, 0, 0, 0, 0];
    }
    if (question()) this.letGo();
    const motion = this.gamepad();
    for (const code of this.held) motion[KEYS[code][0]] += (this.finer ? FINER : 1) * KEYS[code][1];
    motion[0] += this.pads.xy[0];
    motion[1] += this.pads.xy[1];
    motion[2] += this.pads.zr[0];
    motion[5] += this.pads.zr[1];
    motion[4] += this.pads.tilt[0];
    motion[3] -= this.pads.tilt[1];
    return motion.map((value) => speed * Math.max(-1, Math.min(1, value)));
  }
}
