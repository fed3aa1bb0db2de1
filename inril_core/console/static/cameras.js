/** The cameras' pictures, and how old they are. */

import { $, text } from "/static/ui.js";

const cameras = new Map();

export function cameraBox(name) {
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

/** shown: called when the picture is on the page, so that the next one may come. */
export function showFrame(head, blob, shown) {
  const box = cameraBox(head.camera);
  const url = URL.createObjectURL(blob);
  box.image.onload = box.image.onerror = () => {
    if (box.url) URL.revokeObjectURL(box.url);
    box.url = url;
    shown(head.frame_id);
  };
  box.image.src = url;
  box.taken = performance.now() - head.age_s * 1000;
}

/** segment: of the session; simulated: the arm. */
export function showAges(segment, simulated) {
  for (const [name, box] of cameras) {
    const age = box.taken === null ? null : (performance.now() - box.taken) / 1000;
    const drawn = !simulated || !segment || box.purposes.includes(segment);
    const why = drawn ? "" : ` (the contract's recorded_in of this camera lacks ${segment})`;
    text(box.caption, age === null ? `▲ ${name}: no picture yet${why}` : age < 1 ? `${name}: ${age.toFixed(1)} s old` : `▲ ${name}: OLD PICTURE, ${Math.round(age)} s${why}`);
    box.figure.classList.toggle("old", age === null || age >= 1);
  }
}
