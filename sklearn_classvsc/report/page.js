"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const number = (value) => {
    const [size, x] = [Math.abs(value), Number(value.toPrecision(3))];
    const text = value && (size < 1e-4 || size >= 1e7) ? value.toExponential(2) : String(x);
    return text.replace(/-/g, "\u2212");
  };

  const date = (days) => new Date(days * 864e5).toISOString().slice(0, 10);

  // -- cards: links and the map open them, the menu sorts them ---------------------------------------
  function open(element) {
    for (let at = element; at; at = at.parentElement) if (at.matches("details")) at.open = true;
    const target = element.matches("details") ? element.querySelector("summary") : element;
    element.scrollIntoView();
    target.focus({ preventScroll: true });
  }

  function openLinked() {
    const linked = find(location.hash.slice(1));
    if (linked?.matches("details, li")) open(linked);
  }
  window.addEventListener("hashchange", openLinked);
  openLinked();

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#'], svg a");
    const name = link && (link.getAttribute("href") || "").slice(1);
    if (!name || link.hasAttribute("download") || !find(name)?.matches("details, li")) return;
    event.preventDefault();
    open(find(name));
  });

  const cards = [...find("cards").querySelectorAll(":scope > .factor")];
  find("sort").addEventListener("change", (event) => {
    const key = event.target.value;
    const sign = key === "place" ? 1 : -1;
    cards.sort((a, b) => sign * (a.dataset[key] - b.dataset[key]));
    find("cards").append(...cards);
    const words = event.target.selectedOptions[0].textContent;
    find("sorted").textContent = find("sorted").textContent.replace(/sorted by .*/, `sorted by ${words}`);
  });

  // -- the maps: read a cell ----------------------------------------------------------------------
  function readable(id, describe, choose) {
    const { cell: [width, height], left, top, rows, columns, values } = data.maps[id];
    const svg = find(id);
    const cursor = svg.querySelector(".cursor");
    let at = [0, 0];

    function show(i, j) {
      if (!columns.length) return;
      at = [Math.min(Math.max(i, 0), rows.length - 1), Math.min(Math.max(j, 0), columns.length - 1)];
      const [row, column] = [rows[at[0]], columns[at[1]]];
      cursor.setAttribute("x", at[1] * width - 1);
      cursor.setAttribute("y", at[0] * height - 1);
      cursor.setAttribute("visibility", "visible");
      find(`${id}-readout`).textContent = describe(row, column, values[row][column]);
    }

    function cell(event) {
      const point = new DOMPoint(event.clientX, event.clientY)
        .matrixTransform(svg.getScreenCTM().inverse());
      const [i, j] = [Math.floor((point.y - top) / height), Math.floor((point.x - left) / width)];
      return i >= 0 && j >= 0 && i < rows.length && j < columns.length ? [i, j] : null;
    }

    svg.addEventListener("pointermove", (event) => {
      const found = cell(event);
      if (found) show(...found);
    });
    svg.addEventListener("click", (event) => {
      const found = cell(event);
      if (found) choose(rows[found[0]], columns[found[1]]);
    });
    svg.addEventListener("focus", () => show(...at));
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      if (event.key === "Enter" && columns.length) {
        event.preventDefault();
        choose(rows[at[0]], columns[at[1]]);
      }
      if (!(event.key in step)) return;
      event.preventDefault();
      show(at[0] + step[event.key][0], at[1] + step[event.key][1]);
      cursor.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
  }

  // -- names ----------------------------------------------------------------------------------------
  const names = { ...data.names };
  const called = (dimensions) =>
    dimensions.filter((j) => names[j]).map((j) => names[j]).join(" \u00b7 ") || `Factor ${dimensions[0]}`;
  const short = (text) => (text.length > 60 ? `${text.slice(0, 59)}\u2026` : text);

  function rename() {
    for (const element of document.querySelectorAll("[data-dimensions]")) {
      element.textContent = short(called(element.dataset.dimensions.split(" ")));
    }
    const json = JSON.stringify(names);
    find("names-json").textContent = json;
    URL.revokeObjectURL(find("names-file").href);
    find("names-file").href = URL.createObjectURL(new Blob([json], { type: "application/json" }));
  }

  document.addEventListener("input", (event) => {
    if (!event.target.matches("input.name")) return;
    const j = event.target.id.slice("name-".length);
    const name = event.target.value.trim();
    if (name) names[j] = name;
    else delete names[j];
    rename();
  });
  rename();

  const does = (c, i) => data.within[i][c] ?? data.hints[i];
  const rate = (value) => (value === null ? "unknown" : `${value} %`);
  readable(
    "map",
    (c, i, value) => `${data.classes[c]}, ${called(data.factors[i])} (${data.roles[i]}): active in ${rate(value)} of the samples${does(c, i) && `. ${does(c, i)}`}`,
    (c, i) => open(find(`factor-${data.factors[i][0]}`)),
  );
  readable(
    "sharing",
    (c, other, value) => (c === other
      ? `Two samples of ${data.classes[c]}: ${rate(value)} in common`
      : `Samples of ${data.classes[c]} and of ${data.classes[other]}: ${rate(value)} in common`),
    (c) => open(find(`class-${c}`)),
  );

  // -- sliders --------------------------------------------------------------------------------------
  function movable(part) {
    const slider = part.querySelector("input.value");
    const sweep = data.sweeps[part.dataset.dimension];
    if (!slider || !sweep) return;
    const picture = part.querySelector("img.grid");

    function move() {
      const step = Number(slider.value); // 0: the factor is inactive
      const quantile = 5 + Math.round((90 * (step - 1)) / (sweep.values.length - 1));
      const at = step ? `${number(sweep.values[step - 1])}, the ${quantile} % quantile of its values` : "inactive";
      slider.setAttribute("aria-valuetext", at);
      part.querySelector(".at").textContent = step ? `Decoded at ${at}.` : "Decoded with the factor inactive.";
      if (picture) draw(step);
      else write(step);
    }

    function draw(step) {
      const { width, height } = data.image;
      part.querySelectorAll(".frames canvas").forEach((canvas, row) => {
        canvas.width = width;
        canvas.height = height;
        canvas.getContext("2d").drawImage(
          picture, step * width, row * height, width, height, 0, 0, width, height);
      });
    }

    function write(step) {
      const rows = part.querySelectorAll(".frames tbody tr");
      sweep.frames.forEach((steps, i) => steps[step].forEach((value, k) => {
        rows[i].cells[k + 1].textContent = sweep.dates[k] ? date(value) : number(value);
      }));
    }

    slider.addEventListener("input", move);
    if (picture) picture.decode().then(move, move);
    else move();
  }
  // Sliders of closed cards start when the card opens, so that not all pictures are decoded at once.
  for (const card of document.querySelectorAll("details.factor")) {
    const begin = () => card.querySelectorAll(".slider").forEach(movable);
    if (card.open) begin();
    else card.addEventListener("toggle", begin, { once: true });
  }

  // A print shows the closed parts too.
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
})();
