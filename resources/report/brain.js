"use strict";
const VIEWS = { left: [-Math.PI / 2, 0], right: [Math.PI / 2, 0], back: [0, 0], front: [Math.PI, 0], top: [0, Math.PI / 2] };
const SIDES = { left: [-15, 0, 0], right: [15, 0, 0], front: [0, 15, 0], back: [0, -15, 0], top: [0, 0, 15] };
const STEPS = { ArrowLeft: [0.12, 0], ArrowRight: [-0.12, 0], ArrowUp: [0, -0.12], ArrowDown: [0, 0.12] };

function startBrain(box) {
  const data = JSON.parse(box.querySelector(".brain-data").textContent);
  const canvas = box.querySelector("canvas"), pen = canvas.getContext("2d"), told = box.querySelector("output");
  const [maps, values, parcels] = ["map", "value", "parcel"].map((name) => box.querySelector(`[data-${name}]`));
  let turn = -0.7, tilt = 0.35, marks = [], held = null;

  // to the right, up, and away from who looks, in mm
  const turned = ([x, y, z]) => {
    const away = y * Math.cos(turn) - x * Math.sin(turn);
    return [
      x * Math.cos(turn) + y * Math.sin(turn),
      z * Math.cos(tilt) + away * Math.sin(tilt),
      away * Math.cos(tilt) - z * Math.sin(tilt),
    ];
  };
  const number = (value) => (value === null ? "n/a" : value.toFixed(2));

  function drawCortex(places) {
    for (const face of data.faces) {
      const [a, b, c] = face.map((at) => places[at]);
      const [u, v] = [b, c].map((corner) => corner.map((value, axis) => value - a[axis]));
      const normal = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
      // glass is darkest where one looks along it
      const along = 1 - Math.abs(normal[2]) / (Math.hypot(...normal) || 1);
      pen.fillStyle = `rgba(70, 84, 104, ${(0.02 + 0.13 * along ** 3).toFixed(3)})`;
      pen.beginPath();
      for (const [right, up] of [a, b, c]) pen.lineTo(right, -up);
      pen.fill();
    }
  }

  // a small cross beside the head says which way it is turned
  function drawSides() {
    pen.font = "5.5px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.lineWidth = 0.4;
    for (const [name, place] of Object.entries(SIDES)) {
      const [right, up, away] = turned(place);
      pen.fillStyle = pen.strokeStyle = away > 1 ? "#6b7480" : "#1b1f24";
      pen.beginPath();
      pen.moveTo(0, 0);
      pen.lineTo(0.8 * right, -0.8 * up);
      pen.stroke();
      pen.fillText(name, 1.15 * right, 2 - 1.15 * up);
    }
  }

  function drawMark({ place: [right, up, away], at }, map, value) {
    const known = map[value.key][at], found = map.found[at] && known !== null, parcel = data.parcels[at];
    const size = (3.6 - away / 90) * (at === Number(parcels.value) ? 1.5 : 1);
    const shade = Math.round(((known ?? 0) / value.most / 2 + 0.5) * (data.colours.length - 1));
    pen.beginPath();
    if (parcel.square) pen.rect(right - size, -up - size, 2 * size, 2 * size);
    else pen.arc(right, -up, size, 0, 2 * Math.PI);
    pen.fillStyle = found ? data.colours[shade] : "#ffffff";
    pen.strokeStyle = "#222222";
    pen.lineWidth = at === Number(parcels.value) ? 1.4 : 0.5;
    pen.fill();
    pen.stroke();
  }

  function draw() {
    const wide = canvas.clientWidth * devicePixelRatio, high = canvas.clientHeight * devicePixelRatio;
    if (canvas.width !== Math.round(wide)) [canvas.width, canvas.height] = [wide, high];
    const map = data.maps[maps.value], value = data.values[values.value], zoom = Math.min(wide / 200, high / 170);
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    // the middle of the head lies behind and above the origin
    const [right, up] = turned([0, -18, 14]);
    pen.setTransform(zoom, 0, 0, zoom, 25 * zoom, high - 25 * zoom);
    drawSides();
    pen.setTransform(zoom, 0, 0, zoom, wide / 2 - right * zoom, high / 2 + up * zoom);
    drawCortex(data.vertices.map(turned));
    marks = data.parcels.map(({ x, y, z }, at) => ({ at, place: turned([x, y, z]) })).sort((a, b) => b.place[2] - a.place[2]);
    for (const mark of marks) drawMark(mark, map, value);
    box.querySelector("[data-low]").textContent = `${value.name} ${number(-value.most)}`;
    box.querySelector("[data-high]").textContent = number(value.most);
    box.dataset.turn = `${turn.toFixed(2)} ${tilt.toFixed(2)}`;
    // said aloud, so only when it is new
    const words = `${tell(map, Number(parcels.value))}, n = ${map.people}`;
    if (told.textContent !== words) told.textContent = words;
  }

  function tell(map, at) {
    if (at < 0) return map.name;
    const { parcel, x, y, z, group } = data.parcels[at], place = [x, y, z].map(Math.round).join(", ");
    const chance = map.found[at] ? "beyond chance" : "not beyond chance";
    const values = `r ${number(map.r[at])}, minus its highest null ${number(map.beyond[at])}`;
    return `${parcel} (${place} mm)${group && `, ${group}`}: ${values}, ${chance}`;
  }

  function rotate(sideways, upwards) {
    turn += sideways;
    tilt = Math.max(-Math.PI / 2, Math.min(Math.PI / 2, tilt + upwards));
    draw();
  }

  function point(event) {
    const edge = canvas.getBoundingClientRect(), matrix = pen.getTransform().inverse();
    const at = matrix.transformPoint({ x: (event.clientX - edge.left) * devicePixelRatio, y: (event.clientY - edge.top) * devicePixelRatio });
    const near = marks.findLast(({ place }) => Math.hypot(place[0] - at.x, -place[1] - at.y) < 5);
    if (near && Number(parcels.value) !== near.at) parcels.value = near.at, draw();
  }

  canvas.addEventListener("keydown", (event) => {
    if (event.key in STEPS) event.preventDefault(), rotate(...STEPS[event.key]);
  });
  canvas.addEventListener("pointerdown", (event) => {
    point(event);
    held = [event.clientX, event.clientY];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return point(event);
    rotate((held[0] - event.clientX) / 120, (event.clientY - held[1]) / 120);
    held = [event.clientX, event.clientY];
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (held = null));
  for (const choice of [maps, values, parcels]) choice.addEventListener("change", draw);
  for (const button of box.querySelectorAll("[data-view]"))
    button.addEventListener("click", () => ([turn, tilt] = VIEWS[button.dataset.view], draw()));
  new ResizeObserver(draw).observe(canvas);
}

// nothing is computed before somebody comes to see it
const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) seen.unobserve(target), startBrain(target);
});
for (const box of document.querySelectorAll(".brain")) seen.observe(box);
