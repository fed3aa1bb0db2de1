/**
 * What the person does with keyboard, touch pads and gamepad, as motion in [-1, 1]:
 * x y z, then a rotation vector. Whatever makes it unsure that a key is still held counts as let go.
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

export class Inputs {
  /** actions: drive(), handBack(), stop(), word(number), label(), and gripper is kept here. */
  constructor(actions) {
    this.actions = actions;
    this.held = new Set();
    this.finer = false;
    this.pads = { xy: [0, 0], zr: [0, 0], tilt: [0, 0] };
    this.gripper = null;
    this.pressedBefore = new Set();
    addEventListener("keydown", (event) => this.onKey(event));
    addEventListener("keyup", (event) => {
      this.finer = event.shiftKey;
      this.held.delete(event.code);
    });
    for (const name of ["blur", "pagehide"]) addEventListener(name, () => this.letGo());
    document.addEventListener("visibilitychange", () => this.letGo());
    for (const [name, values] of Object.entries(this.pads)) this.touch(`pad-${name}`, values);
  }

  /** Nothing is held any more. */
  letGo() {
    this.held.clear();
    this.finer = false;
    for (const pad of Object.values(this.pads)) pad.fill(0);
    for (const knob of document.querySelectorAll(".pad b")) knob.style.transform = "";
  }

  onKey(event) {
    this.finer = event.shiftKey;
    const asked = document.querySelector("dialog[open]"); // text is typed in dialogs alone
    const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName) || asked;
    if (event.code === "Space" && !asked) {
      event.preventDefault();
      if (!event.repeat) this.actions.stop();
      return;
    }
    if (typing || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.code in KEYS) {
      event.preventDefault();
      this.held.add(event.code);
      return;
    }
    if (event.repeat) return;
    const once = {
      KeyG: () => this.actions.drive(), KeyH: () => this.actions.handBack(),
      KeyC: () => { this.gripper = 1; }, KeyV: () => { this.gripper = -1; },
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
    const end = (event) => {
      if (event.pointerId !== pointer) return;
      pointer = null;
      values.fill(0);
      knob.style.transform = "";
    };
    pad.addEventListener("pointerdown", (event) => {
      if (pointer !== null) return;
      pointer = event.pointerId;
      box = pad.getBoundingClientRect();
      pad.setPointerCapture(pointer);
      move(event);
    });
    pad.addEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) pad.addEventListener(name, end);
    pad.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  /** The gamepad's sticks, and its buttons as they are pressed. */
  gamepad() {
    const motion = [0, 0, 0, 0, 0, 0];
    const pad = (navigator.getGamepads?.() ?? []).find((one) => one && one.connected && one.mapping === "standard");
    document.getElementById("gamepad").textContent = pad ? `gamepad: ${pad.id.slice(0, 30)}` : "";
    if (!pad) {
      this.pressedBefore.clear();
      return motion;
    }
    const axis = (index) => (Math.abs(pad.axes[index]) < DEAD_ZONE ? 0 : pad.axes[index]);
    const forward = -axis(1), right = axis(0);
    if (pad.buttons[TILT_BUTTON]?.pressed) [motion[4], motion[3]] = [forward, right];
    else [motion[0], motion[1]] = [forward, -right];
    [motion[2], motion[5]] = [-axis(3), -axis(2)];
    if (pad.buttons[FINER_BUTTON]?.pressed) motion.forEach((value, i) => { motion[i] = FINER * value; });
    const pressed = new Set(Object.keys(PAD_BUTTONS).filter((index) => pad.buttons[index]?.pressed));
    for (const index of pressed) {
      if (this.pressedBefore.has(index)) continue;
      const name = PAD_BUTTONS[index];
      if (name === "close" || name === "open") this.gripper = name === "close" ? 1 : -1;
      else this.actions[name]();
    }
    this.pressedBefore = pressed;
    return motion;
  }

  /** Motion now; zeros while the page is hidden or has not the focus. */
  motion(speed) {
    if (document.hidden) return [0, 0, 0, 0, 0, 0];
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
