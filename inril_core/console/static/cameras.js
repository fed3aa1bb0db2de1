/** The cameras' pictures, and how old they are. */

import { $, text } from "/static/ui.js";

const cameras = new Map();

export function cameraBox(name) {
  if (cameras.has(name)) return cameras.get(name);
  const figure = document.createElement("figure");
  const image = document.createElement("img");
  const caption = document.createElement("figcaption");
  image.alt = `camera ${name}`;
  const wanted = Object.assign(document.createElement("img"), { className: "wanted", hidden: true, alt: `how camera ${name} shall see the cell` });
  const blend = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 100, value: 50, hidden: true });
  blend.setAttribute("aria-label", `camera ${name}: from the live picture to the wanted one`);
  blend.addEventListener("input", () => { wanted.style.opacity = blend.value / 100; });
  const view = document.createElement("div");
  view.append(image, wanted);
  figure.append(view, blend, caption);
  $("cameras").append(figure);
  const box = { figure, image, caption, wanted, blend, wantedWords: "", taken: null, url: "", purposes: [] };
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

/** The start that is being laid out: its pictures lie half transparent over the live ones. */
export function showWanted({ start, pictures }) {
  const of = new Map(pictures.map((picture) => [picture.camera, picture]));
  for (const name of of.keys()) cameraBox(name);
  for (const [name, box] of cameras) {
    const picture = of.get(name);
    const there = Boolean(picture?.jpeg);
    if (there) box.wanted.src = `data:image/jpeg;base64,${picture.jpeg}`;
    box.wanted.hidden = box.blend.hidden = !there;
    box.wantedWords = there ? `; start ${start} as wanted lies over it` : picture ? `; ▲ no wanted picture: ${picture.trouble}` : "";
  }
}

/** segment: of the session; simulated: the arm. */
export function showAges(segment, simulated) {
  for (const [name, box] of cameras) {
    const age = box.taken === null ? null : (performance.now() - box.taken) / 1000;
    const drawn = !simulated || !segment || box.purposes.includes(segment);
    const why = drawn ? box.wantedWords : `${box.wantedWords} (the contract's recorded_in of this camera lacks ${segment})`;
    text(box.caption, age === null ? `▲ ${name}: no picture yet${why}` : age < 1 ? `${name}: ${age.toFixed(1)} s old${box.wantedWords}` : `▲ ${name}: OLD PICTURE, ${Math.round(age)} s${why}`);
    box.figure.classList.toggle("old", age === null || age >= 1);
  }
}
