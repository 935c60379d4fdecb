// SPDX-License-Identifier: MIT
// Style and program of the page of a case (case_page.cpp). The data are the JSON of the element "data".
#pragma once

namespace mfres {

inline constexpr const char* case_page_style = R"css(
body{margin:0;padding:16px 24px;background:#121418;color:#e8eaee;font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.35rem;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:1.05rem;margin:22px 0 6px}
a{color:#9cf}
.notice{color:#ffb050;margin:0 0 10px}
.warning{border-left:4px solid #ffb050;padding:2px 10px;margin:6px 0}
.controls{display:flex;flex-wrap:wrap;gap:8px 22px;align-items:center;margin:10px 0}
.controls fieldset{border:0;margin:0;padding:0;display:flex;gap:12px}
.views{display:flex;flex-wrap:wrap;gap:16px}
.view{margin:0;position:relative;min-width:min(300px,100%)}
.view canvas{display:block;background:#000;width:100%;cursor:crosshair}
.view input{width:100%;margin:6px 0 0}
.view figcaption{color:#aeb4be}
.mark{position:absolute;color:#e8eaee;text-shadow:0 0 3px #000,0 0 3px #000;font-weight:600;pointer-events:none}
.swatch{display:inline-block;width:14px;height:14px;margin-right:7px;vertical-align:-2px;border:1px solid #000}
table{border-collapse:collapse}
th,td{padding:2px 18px 2px 0;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{font-weight:500;color:#aeb4be}
td.number{text-align:right;font-variant-numeric:tabular-nums}
@media print{body{background:#fff;color:#000}.controls,.view input{display:none}th,.view figcaption{color:#333}}
)css";

inline constexpr const char* case_page_script = R"js(
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const planes = [
  {name: "axial", across: 0, down: 1, through: 2, up: false, marks: ["R", "L", "A", "P"]},
  {name: "coronal", across: 0, down: 2, through: 1, up: true, marks: ["R", "L", "S", "I"]},
  {name: "sagittal", across: 1, down: 2, through: 0, up: true, marks: ["A", "P", "S", "I"]}];
const state = {image: 0, labels: true, filled: true, reference: true, at: data.start.slice()};
const zoom = 3;

async function inflate(base64) {
  const bytes = Uint8Array.from(atob(base64), c => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function grey(image) {
  const values = await inflate(image.data);
  for (let n = 1; n < values.length; ++n)
    values[n] = values[n] + values[n - 1];
  return {name: image.name, step: image.step, scale: 255 / (image.levels - 1), values,
          size: data.size.map(n => Math.ceil(n / image.step))};
}

function grey_at(image, p) {
  const q = p.map(n => Math.floor(n / image.step));
  return image.scale * image.values[q[0] + image.size[0] * (q[1] + image.size[1] * q[2])];
}

function index(p) { return p[0] + data.size[0] * (p[1] + data.size[1] * p[2]); }

function voxel(plane, column, row) {
  const p = state.at.slice();
  p[plane.across] = column;
  p[plane.down] = plane.up ? data.size[plane.down] - 1 - row : row;
  return p;
}

function place(plane) {
  const number = data.low[plane.through] + state.at[plane.through];
  const axis = data.file.axis[plane.through], size = data.file.size[plane.through];
  let own = Math.floor((number + 0.5) * size / data.grid[plane.through]);
  if (data.file.flip[plane.through]) own = size - 1 - own;
  return plane.name + ", " + "ijk"[axis] + " = " + own + " of 0 to " + (size - 1) + " in the file";
}

function draw(plane, loaded) {
  const columns = data.size[plane.across], rows = data.size[plane.down];
  const small = document.createElement("canvas");
  small.width = columns; small.height = rows;
  const pen = small.getContext("2d"), pixels = pen.createImageData(columns, rows);
  const classes = [], truth = [];
  for (let row = 0, n = 0; row < rows; ++row)
    for (let column = 0; column < columns; ++column, ++n) {
      const p = voxel(plane, column, row), v = grey_at(loaded.images[state.image], p);
      classes.push(loaded.labels[index(p)]);
      if (loaded.reference) truth.push(loaded.reference[index(p)]);
      pixels.data.set([v, v, v, 255], 4 * n);
    }
  pen.putImageData(pixels, 0, 0);
  const canvas = plane.canvas, page = canvas.getContext("2d");
  page.imageSmoothingEnabled = true;
  page.drawImage(small, 0, 0, canvas.width, canvas.height);
  if (state.labels) {
    const wide = canvas.width / columns, high = canvas.height / rows;
    const outline = (map, belongs, colour, width) => {
      page.strokeStyle = colour; page.lineWidth = width; page.beginPath();
      const inside = (x, y) => x >= 0 && y >= 0 && x < columns && y < rows && belongs(map[x + columns * y]);
      for (let y = 0; y < rows; ++y)
        for (let x = 0; x < columns; ++x) {
          if (!inside(x, y)) continue;
          if (!inside(x - 1, y)) { page.moveTo(x * wide, y * high); page.lineTo(x * wide, (y + 1) * high); }
          if (!inside(x + 1, y)) { page.moveTo((x + 1) * wide, y * high); page.lineTo((x + 1) * wide, (y + 1) * high); }
          if (!inside(x, y - 1)) { page.moveTo(x * wide, y * high); page.lineTo((x + 1) * wide, y * high); }
          if (!inside(x, y + 1)) { page.moveTo(x * wide, (y + 1) * high); page.lineTo((x + 1) * wide, (y + 1) * high); }
        }
      page.stroke();
    };
    data.classes.forEach((of, c) => {
      const colour = "rgb(" + of.rgb.join(",") + ")";
      if (state.filled) {
        page.globalAlpha = 0.35; page.fillStyle = colour;
        for (let n = 0; n < classes.length; ++n)
          if (classes[n] === c + 1)
            page.fillRect((n % columns) * wide, Math.floor(n / columns) * high, wide, high);
        page.globalAlpha = 1;
      }
      outline(classes, value => value === c + 1, colour, 1.6);
    });
    if (loaded.reference && state.reference) {
      outline(truth, value => value > 0, "#fff", 1.2);
      outline(truth, value => value === 1 || value === 3, "#fff", 1.2);
    }
  }
  const x = (state.at[plane.across] + 0.5) * canvas.width / columns;
  const down = plane.up ? data.size[plane.down] - 1 - state.at[plane.down] : state.at[plane.down];
  const y = (down + 0.5) * canvas.height / rows;
  page.strokeStyle = "#ffb050"; page.lineWidth = 1; page.beginPath();
  for (const [a, b, c, d] of [[x, 0, x, 10], [x, canvas.height - 10, x, canvas.height],
                              [0, y, 10, y], [canvas.width - 10, y, canvas.width, y]]) {
    page.moveTo(a, b); page.lineTo(c, d);
  }
  page.stroke();
  plane.slider.value = state.at[plane.through];
  plane.caption.textContent = place(plane);
}

function build(plane, redraw) {
  const figure = document.createElement("figure");
  figure.className = "view";
  const canvas = plane.canvas = document.createElement("canvas");
  const least = Math.min(...data.mm);
  canvas.width = Math.round(data.size[plane.across] * data.mm[plane.across] / least * zoom);
  canvas.height = Math.round(data.size[plane.down] * data.mm[plane.down] / least * zoom);
  canvas.id = plane.name;
  // As wide as its voxels, or in one row at one scale where the window is narrower.
  figure.style.flex = canvas.width + " 1 0";
  figure.style.maxWidth = canvas.width + "px";
  const slider = plane.slider = document.createElement("input");
  slider.type = "range"; slider.min = 0; slider.max = data.size[plane.through] - 1;
  slider.setAttribute("aria-label", plane.name + " slice");
  const move = value => {
    state.at[plane.through] = Math.max(0, Math.min(data.size[plane.through] - 1, value));
    redraw();
  };
  slider.addEventListener("input", () => move(Number(slider.value)));
  canvas.addEventListener("wheel", event => {
    event.preventDefault();
    move(state.at[plane.through] + Math.sign(event.deltaY));
  }, {passive: false});
  canvas.addEventListener("click", event => {
    const box = canvas.getBoundingClientRect();
    const p = voxel(plane, Math.floor((event.clientX - box.left) / box.width * data.size[plane.across]),
                    Math.floor((event.clientY - box.top) / box.height * data.size[plane.down]));
    state.at = p.map((n, axis) => Math.max(0, Math.min(data.size[axis] - 1, n)));
    redraw();
  });
  plane.caption = document.createElement("figcaption");
  const frame = document.createElement("div");
  frame.style.position = "relative";
  frame.append(canvas);
  const places = ["left:5px;top:47%", "right:5px;top:47%", "left:48%;top:12px", "left:48%;bottom:12px"];
  plane.marks.forEach((letter, n) => {
    const mark = document.createElement("span");
    mark.className = "mark"; mark.textContent = letter; mark.style.cssText = places[n];
    frame.append(mark);
  });
  figure.append(frame, slider, plane.caption);
  document.getElementById("views").append(figure);
}

async function start() {
  if (typeof DecompressionStream === "undefined")
    throw new Error("this browser cannot show the images: it has no DecompressionStream (Chrome 80, Firefox 113, Safari 16.4)");
  const loaded = {images: await Promise.all(data.images.map(grey)), labels: await inflate(data.labels),
                  reference: data.reference ? await inflate(data.reference) : null};
  const redraw = () => planes.forEach(plane => draw(plane, loaded));
  planes.forEach(plane => build(plane, redraw));
  const choice = document.getElementById("images");
  loaded.images.forEach((image, n) => {
    const label = document.createElement("label"), radio = document.createElement("input");
    radio.type = "radio"; radio.name = "image"; radio.checked = n === 0; radio.id = "image-" + image.name;
    radio.addEventListener("change", () => { state.image = n; redraw(); });
    label.append(radio, " " + image.name);
    choice.append(label);
  });
  const bind = (id, key) => {
    const box = document.getElementById(id);
    if (box) box.addEventListener("change", () => { state[key] = box.checked; redraw(); });
  };
  bind("labels", "labels"); bind("filled", "filled"); bind("reference", "reference");
  document.addEventListener("keydown", event => {
    if (event.key !== "l" && event.key !== "L") return;
    const box = document.getElementById("labels");
    box.checked = state.labels = !state.labels;
    redraw();
  });
  redraw();
  document.body.dataset.ready = "yes";
}

start().catch(error => { document.getElementById("problem").textContent = error.message; });
)js";

} // namespace mfres
