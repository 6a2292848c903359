// Charts in SVG, updated in place: one path a series, so a new picture costs a few attributes.

const PLOT_HEIGHT = 104;
const ROOM_ABOVE = 14; // for the labels of marks
const ROOM_BELOW = 20; // for the ticks

function chartPart() {
  const title = element("h3", { class: "lp-title" });
  const note = element("span", { class: "lp-note" });
  const layers = Object.fromEntries(
    ["grid", "series", "marks", "labels", "ticks", "pointer"].map((name) => [name, shape("g", { class: `lp-chart-${name}` })]),
  );
  const empty = shape("text", { class: "lp-chart-empty", "text-anchor": "middle" });
  const drawing = shape("svg", { class: "lp-chart", role: "img" }, ...Object.values(layers), empty);
  const root = element(
    "figure", { class: "lp-figure" }, element("figcaption", { class: "lp-head" }, title, note), drawing,
  );
  const chart = { root, drawing, layers, width: 0, latest: null, pointedAt: null, places: {} };

  chart.draw = (data) => {
    chart.latest = data;
    if (!data || !chart.width) return;
    const frame = frameFor(data, chart.width);
    setAttribute(drawing, "viewBox", `0 0 ${chart.width} ${frame.bottom + ROOM_BELOW}`);
    setAttribute(drawing, "height", frame.bottom + ROOM_BELOW);
    setText(title, data.title);
    const count = Math.max(0, ...data.series.map((series) => series.values.length));
    const silent = !data.series.some((series) => series.values.some((value) => value));
    if (data.kind === "lines") drawLines(chart, data, frame, count);
    else drawBars(chart, data, frame, count);
    drawMarks(layers.marks, data.marks ?? [], frame, count);
    drawTicks(layers.ticks, data.ticks ?? [], frame);
    setText(empty, silent ? "nothing yet" : "");
    setAttribute(empty, "x", (frame.left + frame.right) / 2);
    setAttribute(empty, "y", (frame.top + frame.bottom) / 2 + 4);
    drawPointer(chart, data, frame, count, note);
    setAttribute(drawing, "aria-label", describe(data));
  };
  drawing.addEventListener("pointermove", (event) => {
    chart.pointedAt = event.clientX - drawing.getBoundingClientRect().left;
    chart.draw(chart.latest);
  });
  drawing.addEventListener("pointerleave", () => { chart.pointedAt = null; chart.draw(chart.latest); });
  const observer = new ResizeObserver(([entry]) => {
    const now = Math.floor(entry.contentRect.width);
    if (now !== chart.width) { chart.width = now; chart.draw(chart.latest); }
  });
  observer.observe(root);
  chart.close = () => observer.disconnect();
  return chart;
}

function frameFor(data, width) {
  const lines = data.kind === "lines";
  const longest = Math.max(0, ...(data.y_ticks ?? []).map(([, label]) => String(label).length));
  const names = Math.max(0, ...data.series.map((series) => series.name.length));
  return {
    left: longest ? 10 + longest * 6 : 0,
    right: width - (lines ? 8 + names * 7 : 0),
    top: ROOM_ABOVE,
    bottom: ROOM_ABOVE + PLOT_HEIGHT,
  };
}

function topOf(data, count) {
  let top = data.limit ?? 0;
  for (let at = 0; at < count; at += 1) {
    top = Math.max(top, data.series.reduce((sum, series) => sum + (series.values[at] ?? 0), 0));
  }
  return top || 1;
}

function drawBars(chart, data, frame, count) {
  const { layers } = chart;
  const top = topOf(data, count);
  const x = (at) => Math.round(frame.left + ((frame.right - frame.left) * at) / Math.max(1, count));
  const y = (value) => frame.bottom - ((frame.bottom - frame.top) * value) / top;
  const gap = (frame.right - frame.left) / Math.max(1, count) >= 3.5 ? 1 : 0;
  const base = new Array(count).fill(0);
  const bands = [];
  const paths = repeat(layers.series, data.series.length, () => shape("path", { "shape-rendering": "crispEdges" }));
  data.series.forEach((series, index) => {
    let path = "";
    const band = [];
    for (let at = 0; at < count; at += 1) {
      const value = series.values[at] ?? 0;
      const [low, high] = [y(base[at]), y(base[at] + value)];
      base[at] += value;
      band.push([low, high]);
      if (value > 0) path += `M${x(at)} ${low.toFixed(1)}V${high.toFixed(1)}H${x(at + 1) - gap}V${low.toFixed(1)}Z`;
    }
    bands.push(band);
    setAttribute(paths[index], "d", path);
    setAttribute(paths[index], "class", `lp-bars lp-tone-${series.tone ?? "good"}`);
  });
  drawGrid(layers.grid, [[frame.bottom, ""], [y(data.limit ?? top), ""], ...(data.y_ticks ?? []).map(([v, l]) => [y(v), l])], frame);
  labelBands(chart, data, bands, x, count, frame);
}

// A band is labelled where it is thick enough, and the label stays where it is as long as it fits there.
function labelBands(chart, data, bands, x, count, frame) {
  const nodes = repeat(chart.layers.labels, data.series.length, () => shape("text", { "text-anchor": "middle" }));
  data.series.forEach((series, index) => {
    const words = series.name;
    const columns = Math.max(1, Math.ceil((words.length * 6.4 + 12) / ((frame.right - frame.left) / Math.max(1, count))));
    const room = (start) => {
      const cut = bands[index].slice(start, start + columns);
      const low = Math.min(...cut.map((pair) => pair[0]));
      const high = Math.max(...cut.map((pair) => pair[1]));
      return { start, thick: low - high, low, high };
    };
    const kept = chart.places[words];
    let best = kept !== undefined && kept + columns <= count ? room(kept) : null;
    if (!best || best.thick < 16) best = roomiest(room, Math.max(0, count - columns + 1), index > 0);
    const fits = best && best.thick >= 16;
    if (fits) chart.places[words] = best.start;
    else delete chart.places[words];
    setText(nodes[index], fits ? words : "");
    setAttribute(nodes[index], "class", `lp-band-label lp-on-${series.tone ?? "good"}`);
    if (!fits) return;
    setAttribute(nodes[index], "x", (x(best.start) + x(best.start + columns)) / 2);
    setAttribute(nodes[index], "y", index ? best.high + 15 : best.low - 7);
  });
}

// The first place from the left (or from the right) that is nearly as thick as the thickest.
function roomiest(room, places, fromRight) {
  const all = Array.from({ length: places }, (_, start) => room(start));
  const enough = 0.85 * Math.max(0, ...all.map((place) => place.thick));
  if (fromRight) all.reverse();
  return all.find((place) => place.thick >= enough) ?? null;
}

function drawLines(chart, data, frame, count) {
  const { layers } = chart;
  const ticks = data.y_ticks ?? [];
  const all = data.series.flatMap((series) => series.values.filter((value) => value > 0));
  const [low, high] = ticks.length > 1
    ? [ticks[0][0], data.limit ?? ticks.at(-1)[0]]
    : [data.log ? Math.min(1, ...all) : 0, data.limit ?? Math.max(1, ...all)];
  const scale = data.log
    ? (value) => Math.log(Math.max(value, low) / low) / Math.log(high / low)
    : (value) => (value - low) / (high - low);
  const y = (value) => frame.bottom - (frame.bottom - frame.top) * Math.max(0, Math.min(1, scale(value)));
  const x = (at) => frame.left + ((frame.right - frame.left) * at) / Math.max(1, count - 1);
  drawGrid(layers.grid, ticks.length ? ticks.map(([value, label]) => [y(value), label]) : [[frame.bottom, ""]], frame);
  const paths = repeat(layers.series, data.series.length, () => shape("path", { fill: "none" }));
  const ends = [];
  data.series.forEach((series, index) => {
    let path = "";
    let pen = "M";
    let end = null;
    series.values.forEach((value, at) => {
      if (value === null || value === undefined) { pen = "M"; return; }
      path += `${pen}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
      end = y(value);
    });
    const tone = series.tone ?? (index ? "quiet" : "main");
    setAttribute(paths[index], "d", path);
    setAttribute(paths[index], "class", `lp-line lp-tone-${tone}`);
    ends.push({ name: series.name, tone, at: end });
  });
  labelEnds(layers.labels, ends, frame);
}

// Names at the right end of the lines, pushed apart where they would overlap.
function labelEnds(layer, ends, frame) {
  const nodes = repeat(layer, ends.length, () => shape("text"));
  const placed = ends.map((end, index) => ({ ...end, node: nodes[index] })).filter((end) => end.at !== null);
  for (const [index, end] of ends.entries()) if (end.at === null) setText(nodes[index], "");
  placed.sort((one, other) => one.at - other.at);
  placed.forEach((end, index) => {
    end.y = Math.max(end.at, index ? placed[index - 1].y + 14 : frame.top);
  });
  const over = Math.max(0, (placed.at(-1)?.y ?? 0) - frame.bottom);
  for (const end of placed) {
    setText(end.node, end.name);
    setAttribute(end.node, "x", frame.right + 6);
    setAttribute(end.node, "y", end.y - over + 4);
    setAttribute(end.node, "class", `lp-end-label lp-ink-${end.tone}`);
  }
}

function drawGrid(layer, rows, frame) {
  const nodes = repeat(layer, rows.length, () => shape("g", {}, shape("line"), shape("text", { "text-anchor": "end" })));
  rows.forEach(([y, label], index) => {
    const [line, text] = nodes[index].children;
    const at = Math.round(y) + 0.5;
    for (const [name, value] of [["x1", frame.left], ["x2", frame.right], ["y1", at], ["y2", at]]) setAttribute(line, name, value);
    setText(text, label);
    setAttribute(text, "x", frame.left - 7);
    setAttribute(text, "y", at + 4);
  });
}

function drawMarks(layer, marks, frame, count) {
  const nodes = repeat(layer, marks.length, () => shape("g", {}, shape("line"), shape("text")));
  let taken = -Infinity;
  marks.forEach((mark, index) => {
    const [line, text] = nodes[index].children;
    const x = Math.round(frame.left + ((frame.right - frame.left) * mark.at) / Math.max(1, count)) + 0.5;
    for (const [name, value] of [["x1", x], ["x2", x], ["y1", 2], ["y2", frame.bottom]]) setAttribute(line, name, value);
    const length = String(mark.label).length * 6.2 + 8;
    const flipped = x + length > frame.right;
    const start = flipped ? x - length : x;
    const fits = start >= taken;
    setText(text, fits ? mark.label : "");
    setAttribute(text, "x", flipped ? x - 4 : x + 4);
    setAttribute(text, "y", 10);
    setAttribute(text, "text-anchor", flipped ? "end" : "start");
    if (fits) taken = start + length;
  });
}

function drawTicks(layer, ticks, frame) {
  const nodes = repeat(layer, ticks.length, () => shape("text"));
  ticks.forEach((tick, index) => {
    const share = ticks.length > 1 ? index / (ticks.length - 1) : 0;
    setText(nodes[index], tick);
    setAttribute(nodes[index], "x", frame.left + (frame.right - frame.left) * share);
    setAttribute(nodes[index], "y", frame.bottom + 15);
    setAttribute(nodes[index], "text-anchor", share === 0 ? "start" : share === 1 ? "end" : "middle");
  });
}

// Under the pointer: a thin line, and the values there in place of the note.
function drawPointer(chart, data, frame, count, note) {
  const [line] = repeat(chart.layers.pointer, 1, () => shape("line"));
  const at = chart.pointedAt;
  const inside = at !== null && count > 0 && at >= frame.left && at <= frame.right;
  setAttribute(line, "visibility", inside ? "visible" : "hidden");
  if (!inside) { setText(note, data.note); return; }
  const share = (at - frame.left) / (frame.right - frame.left);
  const index = Math.min(count - 1, Math.floor(share * count));
  for (const [name, value] of [["x1", at], ["x2", at], ["y1", frame.top], ["y2", frame.bottom]]) setAttribute(line, name, value);
  setText(note, data.series.map((series) => `${series.name} ${valueOf(data, series.values[index])}`).join(" · "));
}

function valueOf(data, value) {
  if (value === null || value === undefined) return "–";
  if (data.kind === "lines" && (data.unit ?? "ms") === "ms") return formatSeconds(value / 1000);
  return `${formatNumber(Number(value.toPrecision(3)))}${data.unit ? ` ${data.unit}` : ""}`;
}

function describe(data) {
  const last = data.series.map((series) => `${series.name} ${valueOf(data, series.values.at(-1))}`);
  return `${data.title}: ${last.join(", ")} now`;
}
