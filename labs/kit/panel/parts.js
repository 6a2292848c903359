// Parts that the panel and the pool box share. Every part is made once and then updated in place: nothing is
// thrown away and drawn again, so nothing flickers.

const SVG = "http://www.w3.org/2000/svg";
// JupyterLab takes arrow keys for its own before the page hears of them, unless the focused element says no.
const OWN_KEYS = { "data-lm-suppress-shortcuts": "true" };
const ICONS = {
  idle: ["Idle", "M5.5 4.5v7M10.5 4.5v7"],
  good: ["Healthy", "M3.5 8.5l3 3 6-7"],
  warn: ["Warning", "M8 3.2v6M8 12.1v.6"],
  bad: ["Down", "M4.2 4.2l7.6 7.6M11.8 4.2l-7.6 7.6"],
};

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(node, name, value);
  node.append(...children);
  return node;
}

function shape(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(node, name, value);
  node.append(...children);
  return node;
}

// The browser lays a page out again for a write that changes nothing, so look first.
function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) {
    node.setAttribute(name, value === true ? "" : value);
  }
}

function setText(node, text) {
  const wanted = text ?? "";
  if (node.textContent !== String(wanted)) node.textContent = wanted;
}

function setVariable(node, name, value) {
  if (node.style.getPropertyValue(name) !== String(value)) node.style.setProperty(name, value);
}

// Make `parent` have exactly `count` children; new ones come from `make(index)`.
function repeat(parent, count, make) {
  while (parent.children.length > count) parent.lastChild.remove();
  while (parent.children.length < count) parent.append(make(parent.children.length));
  return parent.children;
}

function formatNumber(value) {
  return new Intl.NumberFormat("en-US", { maximumFractionDigits: 3 }).format(value);
}

// Incident seconds as a person would say them.
function formatSeconds(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 0.001) return "0 ms";
  if (seconds < 0.01) return `${(seconds * 1000).toFixed(1)} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  return `${formatNumber(Math.round(seconds))} s`;
}

// Follow the page's theme: JupyterLab and Notebook 7 say it on <body>, VS Code in a class; elsewhere look at the
// colour that is there.
function followTheme(root) {
  const isDark = () => {
    const body = document.body;
    if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "false";
    if (body.dataset.vscodeThemeKind) return !body.dataset.vscodeThemeKind.includes("light");
    const parts = (getComputedStyle(body).backgroundColor.match(/[\d.]+/g) ?? []).map(Number);
    if (parts.length < 3 || parts[3] === 0) return false;
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2] < 110;
  };
  const apply = () => setAttribute(root, "data-theme", isDark() ? "dark" : "light");
  const observer = new MutationObserver(apply);
  observer.observe(document.body, { attributes: true });
  observer.observe(document.documentElement, { attributes: true });
  apply();
  return () => observer.disconnect();
}

// Call `draw` at the next frame, once, however often it is asked for.
function frameOf(draw) {
  let asked = 0;
  const ask = () => {
    if (!asked) asked = requestAnimationFrame(() => { asked = 0; draw(); });
  };
  ask.cancel = () => cancelAnimationFrame(asked);
  return ask;
}

// The sentence on top. Its tone is told by an icon and its name as well as by colour.
function bannerPart() {
  const icon = shape("path", { class: "lp-icon-line" });
  const badge = shape(
    "svg", { class: "lp-icon", viewBox: "0 0 16 16", role: "img" },
    shape("circle", { class: "lp-icon-disc", cx: 8, cy: 8, r: 8 }), icon,
  );
  const sentence = element("p", { class: "lp-sentence" });
  const speed = element("span", { class: "lp-speed" });
  const busy = element("span", { class: "lp-busy" });
  const bar = element("div", { class: "lp-progress", "aria-hidden": "true" });
  const notice = element("p", { class: "lp-notice", role: "alert", hidden: true });
  const spoken = element("div", { class: "lp-spoken", "aria-live": "polite" });
  const root = element(
    "div", { class: "lp-banner" },
    element("div", { class: "lp-banner-row" }, badge, sentence, element("div", { class: "lp-aside" }, busy, speed)),
    bar, notice, spoken,
  );
  let said = { tone: null, text: null, at: -Infinity };

  // A sentence that changes five times a second cannot be read aloud: speak when the tone changes, else seldom.
  function speak(tone, text) {
    const now = performance.now();
    const since = now - said.at;
    if (text === said.text || since < 2000 || (tone === said.tone && since < 15000)) return;
    said = { tone, text, at: now };
    setText(spoken, text);
  }

  return {
    root,
    draw(state) {
      const tone = ICONS[state.tone] ? state.tone : "idle";
      setAttribute(root, "data-tone", tone);
      setAttribute(badge, "aria-label", ICONS[tone][0]);
      setAttribute(icon, "d", ICONS[tone][1]);
      setText(sentence, state.sentence);
      const factor = state.speed;
      setText(speed, !factor ? "" : factor === 1 ? "as fast as life" : `${formatNumber(factor)}× faster than life`);
      setText(busy, state.busy ? state.busy.replace(/[.…]*$/, " …") : "");
      setAttribute(root, "data-busy", Boolean(state.busy));
      setText(notice, state.notice);
      notice.hidden = !state.notice;
      speak(tone, state.sentence);
    },
  };
}

// Sizes of a slot, largest first: height, gap, smallest width that holds a label, size of the label.
const SLOT_SIZES = [
  [54, 10, 100, 15], [34, 8, 62, 12.5], [30, 7, 54, 12], [26, 6, 46, 11.5], [22, 5, 38, 11], [18, 4, 29, 10], [14, 3, 23, 9], [11, 3, 9, 0],
];

function fitSlots(count, width, height, sizes) {
  for (const [h, gap, narrowest, font] of sizes) {
    const rows = Math.max(1, Math.floor((height + gap) / (h + gap)));
    const comfortable = Math.max(1, Math.floor((width + gap) / (Math.max(narrowest, 76) + gap)));
    const columns = evenColumns(count, Math.ceil(count / rows), comfortable);
    const each = Math.min(h * 2.2 + 36, (width - gap * (columns - 1)) / columns);
    if (each >= narrowest && height >= h) return { h, gap, font, columns, each };
  }
  return null;
}

// "2,300 s" as "2300" where the slot is too narrow for more.
function shortened(label = "", fit) {
  return label.length * fit.font * 0.58 + 4 > fit.each ? label.replace(/ s$/, "").replace(",", "") : label;
}

// As many columns as are comfortable, or a few less when the last row is then full.
function evenColumns(count, fewest, comfortable) {
  const most = Math.max(fewest, Math.min(count, comfortable));
  for (let columns = most; columns >= Math.max(fewest, most * 0.6); columns -= 1) {
    if (count % columns === 0) return columns;
  }
  return most;
}

// Slots of several pods share one size; pods stand in as many columns as give the largest slots.
function fitPods(counts, width, height, sizes) {
  const largest = Math.max(1, ...counts);
  if (counts.length === 1) {
    return { across: 1, ...(fitSlots(largest, width, height, sizes) ?? fitSlots(largest, width, 1e6, sizes.slice(-1))) };
  }
  let best = null;
  for (let across = 1; across <= Math.min(counts.length, 6); across += 1) {
    const down = Math.ceil(counts.length / across);
    const fit = fitSlots(largest, (width - 20 * (across - 1)) / across, (height - 12 * (down - 1)) / down - 20, sizes);
    if (fit && (!best || fit.h > best.h || (fit.h === best.h && fit.each > best.each))) best = { across, ...fit };
  }
  return best ?? { across: Math.min(counts.length, 4), ...fitSlots(largest, width / 4, 1e6, sizes.slice(-1)) };
}

// The pool, slot by slot. `onPress(index, slot)` makes a held slot a button.
function poolPart({ height = 218, onPress = null, sizes = SLOT_SIZES } = {}) {
  const title = element("h3", { class: "lp-title" });
  const note = element("span", { class: "lp-note" });
  const groups = element("div", { class: "lp-pods" });
  const tip = element("div", { class: "lp-tip", role: "presentation", hidden: true });
  const root = element(
    "section", { class: "lp-pool" }, element("header", { class: "lp-head" }, title, note), groups, tip,
  );
  let width = 0;
  let latest = null;
  let pointed = null;

  function makeSlot() {
    const label = element("span", { class: "lp-slot-label" });
    const detail = element("span", { class: "lp-slot-detail" });
    const role = onPress ? { ...OWN_KEYS, type: "button" } : { role: "listitem" };
    const node = element(onPress ? "button" : "div", { class: "lp-slot", ...role }, label, detail);
    Object.assign(node, { label, detail });
    node.addEventListener("pointerenter", () => { pointed = node; point(); });
    node.addEventListener("pointerleave", () => { pointed = null; point(); });
    if (onPress) node.addEventListener("click", () => onPress(node.index, node.slot));
    return node;
  }

  function makePod() {
    const name = element("h4", { class: "lp-pod-name" });
    const slots = element("div", { class: "lp-slots", role: onPress ? "group" : "list" });
    const pod = element("div", { class: "lp-pod" }, name, slots);
    return Object.assign(pod, { name, slots });
  }

  function point() {
    tip.hidden = !pointed?.isConnected;
    if (tip.hidden) return;
    setText(tip, pointed.words);
    const box = pointed.getBoundingClientRect();
    const frame = root.getBoundingClientRect();
    const middle = box.left - frame.left + box.width / 2;
    const half = tip.offsetWidth / 2;
    tip.style.left = `${Math.max(half, Math.min(frame.width - half, middle))}px`;
    tip.style.top = `${box.top - frame.top}px`;
  }

  function draw(pool) {
    latest = pool;
    root.hidden = !pool;
    if (!pool || !width) return;
    setText(title, pool.title);
    setText(note, pool.note);
    const pods = pool.pods?.length ? pool.pods : [{ name: "", slots: pool.slots ?? [] }];
    const fit = fitPods(pods.map((pod) => pod.slots.length), width, height, sizes);
    setVariable(groups, "--across", fit.across);
    setVariable(groups, "--columns", fit.columns);
    setVariable(groups, "--slot-height", `${fit.h}px`);
    setVariable(groups, "--slot-gap", `${fit.gap}px`);
    setVariable(groups, "--slot-widest", `${Math.floor(fit.each)}px`);
    setVariable(groups, "--slot-font", `${fit.font || 9}px`);
    setAttribute(groups, "data-labels", fit.font ? "shown" : "hidden");
    setAttribute(groups, "data-pods", pods.length > 1 ? "several" : "one");
    let first = 0;
    for (const [at, group] of [...repeat(groups, pods.length, makePod)].entries()) {
      drawPod(group, pods[at], fit, first);
      first += pods[at].slots.length;
    }
    point();
  }

  function drawPod(group, pod, fit, first) {
    setText(group.name, pod.name);
    setAttribute(group.slots, "aria-label", pod.name ? `Connections of ${pod.name}` : "Connections");
    for (const [at, node] of [...repeat(group.slots, pod.slots.length, makeSlot)].entries()) {
      const slot = pod.slots[at];
      const held = Boolean(slot) && slot.tone !== "free";
      node.slot = slot;
      node.index = first + at;
      node.words = held ? `held ${slot.label || formatSeconds(slot.held)} by ${slot.by}` : "free";
      setAttribute(node, "data-tone", slot?.tone ?? (held ? "good" : "free"));
      setText(node.label, slot ? shortened(slot.label, fit) : fit.each >= 40 ? "free" : "");
      setText(node.detail, fit.h >= 50 ? slot?.detail : "");
      const hint = onPress && held ? ". Press to give it back" : "";
      setAttribute(node, "aria-label", `Connection ${at + 1}: ${node.words}${hint}`);
      if (onPress) node.disabled = !held;
    }
  }

  const observer = new ResizeObserver(([entry]) => {
    const now = Math.floor(entry.contentRect.width);
    if (now !== width) { width = now; draw(latest); }
  });
  observer.observe(groups);
  return { root, draw, close: () => observer.disconnect() };
}

const DOT_PITCHES = [18, 16, 14, 12, 10, 9, 8, 7];
const RING_ROWS = 2;

// The line for a connection, its head first: a dot a request, darker the longer it has waited; and below it a ring
// for each request that was refused.
function waitingPart() {
  const title = element("h3", { class: "lp-title" });
  const longest = element("span", { class: "lp-note" });
  const dots = shape("svg", { class: "lp-dots", role: "img" });
  const rings = shape("svg", { class: "lp-rings", "aria-hidden": "true" });
  const refusedTitle = element("h3", { class: "lp-title" });
  const refused = element("div", { class: "lp-refused" }, element("header", { class: "lp-head" }, refusedTitle), rings);
  const root = element(
    "section", { class: "lp-waiting" }, element("header", { class: "lp-head" }, title, longest), dots, refused,
  );
  let width = 0;
  let latest = null;

  function place(node, at, across, pitch, radius, inset) {
    setAttribute(node, "cx", (at % across) * pitch + inset);
    setAttribute(node, "cy", Math.floor(at / across) * pitch + inset);
    setAttribute(node, "r", radius);
  }

  function drawDots(count, waits, limit) {
    const height = dots.getBoundingClientRect().height || 144; // the style sheet's
    const fits = (pitch) => Math.floor(width / pitch) * Math.floor(height / pitch) >= count;
    const pitch = DOT_PITCHES.find(fits) ?? DOT_PITCHES.at(-1);
    const across = Math.max(1, Math.floor(width / pitch));
    const shown = Math.min(count, across * Math.max(1, Math.floor(height / pitch)));
    const nodes = repeat(dots, shown, () => shape("circle"));
    const radius = Math.max(2.4, pitch / 3);
    for (let at = 0; at < shown; at += 1) {
      const share = limit ? Math.min(1, (waits[at] ?? waits.at(-1) ?? 0) / limit) : 1;
      place(nodes[at], at, across, pitch, radius, radius);
      setAttribute(nodes[at], "opacity", (0.25 + 0.75 * share).toFixed(2));
    }
  }

  function drawRefused(count) {
    const across = Math.max(1, Math.floor((width + 6) / 18));
    const shown = Math.min(count, across * RING_ROWS);
    const nodes = repeat(rings, shown, () => shape("circle"));
    for (let at = 0; at < shown; at += 1) place(nodes[at], at, across, 18, 5, 6);
    setText(refusedTitle, count ? `Refused with 503, ${formatNumber(count)}` : "Refused with 503, none");
    setAttribute(refused, "data-none", !count);
  }

  function draw(waiting) {
    latest = waiting;
    root.hidden = !waiting;
    if (!waiting || !width) return;
    const { count = 0, limit = 0 } = waiting;
    const waits = [...(waiting.waits ?? [])].sort((one, other) => other - one);
    const oldest = waiting.longest ?? waits[0] ?? 0;
    setText(title, count ? `Waiting, ${formatNumber(count)}` : "Waiting, none");
    drawDots(count, waits, limit);
    const of = limit ? ` of ${formatNumber(limit)} s` : "";
    setText(longest, count ? `${formatSeconds(oldest).replace(of ? / s$/ : "", "")}${of}` : of && `limit ${formatNumber(limit)} s`);
    const words = `${count} waiting, the longest for ${formatSeconds(oldest)}${of}`;
    setAttribute(dots, "aria-label", count ? words : "Nobody is waiting");
    drawRefused(waiting.refused ?? 0);
  }

  const observer = new ResizeObserver(([entry]) => {
    const now = Math.floor(entry.contentRect.width);
    if (now !== width) { width = now; draw(latest); }
  });
  observer.observe(root);
  return { root, draw, close: () => observer.disconnect() };
}
