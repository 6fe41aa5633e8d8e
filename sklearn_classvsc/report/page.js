"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const minus = (text) => text.replace("-", "\u2212");
  const number = (value) => minus(String(Number(value.toPrecision(3))));
  const signed = (value) => (value > 0 ? "+" : "") + number(value);
  const option = (value, text) => new Option(text, String(value)); // text stays text

  // -- the table: sort and filter ---------------------------------------------------------------
  const table = find("dimension-table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  let sortedBy = "";

  function filter() {
    const words = find("filter-text").value.toLowerCase().split(/\s+/).filter(Boolean);
    const role = find("filter-role").value;
    let shown = 0;
    for (const row of rows) {
      const dimension = data.dimensions[row.dataset.dimension];
      row.hidden = (role && dimension.role !== role) ||
        !words.every((word) => dimension.text.includes(word) || row.dataset.dimension === word);
      shown += !row.hidden;
    }
    const plural = rows.length === 1 ? "" : "s";
    find("shown").textContent = `${shown} of ${rows.length} dimension${plural} shown${sortedBy}`;
  }

  function sort(header) {
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    for (const other of header.parentNode.cells) {
      if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    }
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const key = (row) => Number(row.cells[header.cellIndex].dataset.value);
    rows.sort((a, b) => (ascending ? key(a) - key(b) : key(b) - key(a)));
    body.append(...rows);
    const column = header.textContent.trim().toLowerCase();
    sortedBy = `, sorted by ${column}, ${ascending ? "ascending" : "descending"}`;
    filter();
  }

  for (const header of table.tHead.rows[0].cells) {
    header.querySelector("button")?.addEventListener("click", () => sort(header));
  }
  find("filter-text").addEventListener("input", filter);
  find("filter-role").addEventListener("change", filter);

  // -- the maps: read a cell ----------------------------------------------------------------------
  function readable(id, describe) {
    const { cell: [width, height], left, top, rows, columns, values } = data.maps[id];
    const svg = find(id);
    const cursor = svg.querySelector(".cursor");
    let at = [0, 0];

    function show(i, j) {
      at = [Math.min(Math.max(i, 0), rows.length - 1), Math.min(Math.max(j, 0), columns.length - 1)];
      const [row, column] = [rows[at[0]], columns[at[1]]];
      cursor.setAttribute("x", at[1] * width - 1);
      cursor.setAttribute("y", at[0] * height - 1);
      cursor.setAttribute("visibility", "visible");
      find(`${id}-readout`).textContent = describe(row, column, values[row][column]);
    }

    svg.addEventListener("pointermove", (event) => {
      const point = new DOMPoint(event.clientX, event.clientY)
        .matrixTransform(svg.getScreenCTM().inverse());
      const [i, j] = [Math.floor((point.y - top) / height), Math.floor((point.x - left) / width)];
      if (i >= 0 && j >= 0 && i < rows.length && j < columns.length) show(i, j);
    });
    svg.addEventListener("focus", () => show(...at));
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      if (!(event.key in step)) return;
      event.preventDefault();
      show(at[0] + step[event.key][0], at[1] + step[event.key][1]);
      cursor.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
  }

  const rate = (value) => (value === null ? "unknown" : `${value} %`);
  readable("map", (c, j, value) =>
    `${data.classes[c]}, dimension ${j} (${data.dimensions[j].role}): on in ${rate(value)} of the samples`);
  readable("sharing", (c, other, value) =>
    c === other ? `${data.classes[c]}: two samples of it have ${rate(value)} in common`
      : `${data.classes[c]} and ${data.classes[other]}: ${rate(value)} in common`);

  // -- moving a dimension -------------------------------------------------------------------------
  const chooseClass = find("mover-class");
  const chooseDimension = find("mover-dimension");
  const slider = find("mover-value");
  let sweep = null;
  let pixels = null; // of every frame of the sweep, once its image is decoded

  function offerDimensions(wanted) {
    const c = Number(chooseClass.value);
    const offered = data.sweeps.filter((s) => s.c === c);
    chooseDimension.replaceChildren(...offered.map((s) =>
      option(s.j, `${s.j} · ${data.dimensions[s.j].role} · on in ${rate(data.maps.map.values[c][s.j])}`)));
    if (wanted !== undefined) chooseDimension.value = String(wanted);
    choose();
  }

  async function choose() {
    const chosen = data.sweeps.find((s) =>
      s.c === Number(chooseClass.value) && s.j === Number(chooseDimension.value));
    sweep = chosen;
    pixels = null;
    slider.value = String(Math.floor(sweep.values.length / 2));
    if (data.image) {
      const image = new Image();
      image.src = sweep.src;
      await image.decode();
      if (sweep !== chosen) return; // another was chosen meanwhile
      const { width, height } = data.image;
      const canvas = new OffscreenCanvas(width, image.height);
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
      pixels = sweep.values.concat(0).map((_, k) => context.getImageData(0, k * height, width, height));
      const strip = find("canvas-strip");
      strip.width = (width + 1) * sweep.values.length - 1;
      strip.height = height;
      pixels.slice(1).forEach((frame, k) => strip.getContext("2d").putImageData(frame, k * (width + 1), 0));
    }
    move();
  }

  function move() {
    if (data.image && !pixels) return; // the image is being decoded
    const step = Number(slider.value);
    const quantile = `${Math.round(100 * sweep.quantiles[step])} % quantile`;
    slider.setAttribute("aria-valuetext", `${number(sweep.values[step])}, ${quantile}`);
    find("mover-readout").textContent =
      `Dimension ${sweep.j} at ${number(sweep.values[step])}, the ${quantile} of its values in ${data.classes[sweep.c]}.`;
    if (data.image) drawImages(pixels[0], pixels[step + 1]);
    else drawTable(sweep.frames[0], sweep.frames[step + 1]);
  }

  function drawImages(off, now) {
    // The same strength for every step, so that steps can be compared.
    const brightness = (frame, p) => (frame.data[p] + frame.data[p + 1] + frame.data[p + 2]) / 3;
    let largest = 1;
    for (const frame of pixels) {
      for (let p = 0; p < off.data.length; p += 4) {
        largest = Math.max(largest, Math.abs(brightness(frame, p) - brightness(off, p)));
      }
    }
    const change = new ImageData(off.width, off.height);
    for (let p = 0; p < off.data.length; p += 4) {
      const difference = brightness(now, p) - brightness(off, p);
      const opacity = Math.round((255 * Math.abs(difference)) / largest);
      change.data.set([...data.image[difference > 0 ? "more" : "less"], opacity], p);
    }
    for (const [id, frame] of [["canvas-off", off], ["canvas-now", now], ["canvas-change", change]]) {
      const canvas = find(id);
      canvas.width = frame.width;
      canvas.height = frame.height;
      canvas.getContext("2d").putImageData(frame, 0, 0);
    }
  }

  function drawTable(off, now) {
    const largest = Math.max(1e-9, ...sweep.frames.flatMap((frame) =>
      frame.map((value, i) => Math.abs(value - sweep.frames[0][i]) / sweep.scale[i])));
    const rows = sweep.features.map((name, i) => {
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = name;
      row.append(head);
      for (const text of [number(off[i]), number(now[i]), signed(now[i] - off[i])]) {
        const cell = row.insertCell();
        cell.className = "n";
        cell.textContent = text;
      }
      const change = (now[i] - off[i]) / sweep.scale[i];
      const bar = document.createElement("div");
      bar.className = "bar";
      bar.title = `${signed(change)} standard deviations`;
      const mark = document.createElement("i");
      mark.className = change < 0 ? "down" : "up";
      const length = (50 * Math.abs(change)) / largest;
      mark.style.width = `${length}%`;
      mark.style.left = `${change < 0 ? 50 - length : 50}%`;
      bar.append(mark);
      row.insertCell().append(bar);
      return row;
    });
    find("mover-table").tBodies[0].replaceChildren(...rows);
  }

  const movable = [...new Set(data.sweeps.map((s) => s.c))];
  if (movable.length) {
    chooseClass.append(...movable.map((c) => option(c, data.classes[c])));
    chooseClass.addEventListener("change", () => offerDimensions());
    chooseDimension.addEventListener("change", choose);
    slider.addEventListener("input", move);
    offerDimensions();
  }
  body.addEventListener("click", (event) => {
    if (!event.target.matches(".try")) return;
    const j = Number(event.target.closest("tr").dataset.dimension);
    const users = data.sweeps.filter((s) => s.j === j).map((s) => s.c);
    const best = users.reduce((a, b) =>
      (data.maps.map.values[b][j] > data.maps.map.values[a][j] ? b : a));
    chooseClass.value = String(best);
    offerDimensions(j);
    find("move").scrollIntoView();
    slider.focus({ preventScroll: true });
  });

  // Print shows everything.
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
})();
