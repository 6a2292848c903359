// The panel: controls on the left, the live system on the right.

const QUIET_BEFORE_SENDING = 120; // ms after the last movement of a slider
const LONGEST_BEFORE_SENDING = 400; // ms, so that the system follows a long drag

const SILENCE = 6000; // ms without news after which the kernel is taken to be gone

let radioGroups = 0;

// What each control shares: sending a change when the reader pauses, and following the kernel otherwise.
function sender(model, name) {
  let timer = null;
  let first = 0;
  let value = null;
  let sent = 0;
  const flush = () => {
    if (timer === null) return;
    clearTimeout(timer);
    timer = null;
    sent = Math.max(sent + 1, Date.now()); // rises across views and page loads
    model.send({ kind: "change", name, value, serial: sent });
  };
  return {
    set(next) {
      const now = performance.now();
      if (timer === null) first = now;
      else clearTimeout(timer);
      value = next;
      const wait = Math.max(0, Math.min(QUIET_BEFORE_SENDING, first + LONGEST_BEFORE_SENDING - now));
      timer = setTimeout(flush, wait);
    },
    flush,
    settled: (heard) => timer === null && (heard ?? 0) >= sent,
  };
}

function sliderControl(model, spec) {
  const { values } = spec;
  const input = element("input", {
    ...OWN_KEYS, type: "range", class: "lp-range", "aria-label": spec.label, title: spec.help || null, "data-control": spec.name,
    min: values ? 0 : spec.low, max: values ? values.length - 1 : spec.high, step: values ? 1 : spec.step,
  });
  const shown = element("output", { class: "lp-value" });
  const stops = element("div", { class: "lp-stops", "aria-hidden": "true" });
  const root = element(
    "div", { class: "lp-control lp-slider" },
    element("div", { class: "lp-label-row" }, element("span", { class: "lp-label" }, spec.label), shown),
    element("div", { class: "lp-track" }, stops, input),
  );
  const share = (position) => (position - Number(input.min)) / (Number(input.max) - Number(input.min) || 1);
  const positionOf = (value) => {
    if (!values) return value;
    let best = 0;
    values.forEach((each, at) => { if (Math.abs(Math.log(each / value)) < Math.abs(Math.log(values[best] / value))) best = at; });
    return best;
  };
  const send = sender(model, spec.name);
  let held = false;

  function show(value) {
    const words = `${formatNumber(value)} ${spec.unit}`.trim();
    setText(shown, words);
    setAttribute(input, "aria-valuetext", words);
    setVariable(input, "--share", share(Number(input.value)).toFixed(4));
  }
  for (const stop of spec.stops) {
    const tick = element("span", { class: "lp-stop", title: formatNumber(stop) });
    setVariable(tick, "--share", share(positionOf(stop)).toFixed(4));
    stops.append(tick);
  }
  input.addEventListener("input", () => {
    const value = values ? values[Number(input.value)] : Number(input.value);
    show(value);
    send.set(value);
  });
  input.addEventListener("change", () => send.flush());
  input.addEventListener("pointerdown", () => { held = true; });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) input.addEventListener(end, () => { held = false; });
  return {
    root,
    draw(state, disabled) {
      input.disabled = disabled;
      setAttribute(root, "data-disabled", disabled);
      const value = state.values?.[spec.name];
      if (held || value === undefined || !send.settled(state.heard?.[spec.name])) return;
      const position = String(positionOf(value));
      if (input.value !== position) input.value = position;
      show(value);
    },
    close: send.flush,
  };
}

function choiceControl(model, spec) {
  const group = `lp-choice-${(radioGroups += 1)}`;
  const letters = spec.options.reduce((sum, option) => sum + option.label.length, 0);
  const inline = spec.options.length <= 3 && letters <= 28;
  const send = sender(model, spec.name);
  const inputs = spec.options.map((option) => element("input", {
    ...OWN_KEYS, type: "radio", name: group, value: option.value, class: "lp-radio", "data-control": spec.name,
  }));
  const pills = inputs.map((input, at) => {
    input.addEventListener("change", () => { send.set(input.value); });
    return element(
      "label", { class: "lp-pill", title: spec.options[at].help || null }, input,
      element("span", { class: "lp-pill-face" }, spec.options[at].label),
    );
  });
  const longest = Math.max(...spec.options.map((option) => option.label.length));
  const root = element(
    "div", { class: "lp-control lp-choice", style: `--pill-least: ${Math.round(longest * 5.4 + 10)}px`, "data-inline": inline, role: "radiogroup", "aria-label": spec.label, title: spec.help || null },
    element("span", { class: "lp-label" }, spec.label), element("div", { class: "lp-pills" }, ...pills),
  );
  return {
    root,
    draw(state, disabled) {
      setAttribute(root, "data-disabled", disabled);
      for (const input of inputs) input.disabled = disabled;
      if (!send.settled(state.heard?.[spec.name])) return;
      const value = state.values?.[spec.name];
      for (const input of inputs) if (input.checked !== (input.value === value)) input.checked = input.value === value;
    },
    close: send.flush,
  };
}

function actionControl(model, spec) {
  const root = element("button", {
    ...OWN_KEYS, type: "button", class: "lp-button", "data-primary": spec.primary, title: spec.help || null, "data-control": spec.name,
  }, spec.label);
  let sent = 0;
  root.addEventListener("click", () => {
    sent = Math.max(sent + 1, Date.now());
    setAttribute(root, "data-pending", true);
    model.send({ kind: "press", name: spec.name, serial: sent });
  });
  return {
    root,
    draw(state, disabled) {
      root.disabled = disabled;
      if ((state.heard?.[spec.name] ?? 0) >= sent) setAttribute(root, "data-pending", null);
    },
    close() {},
  };
}

const CONTROLS = { slider: sliderControl, choice: choiceControl, action: actionControl };

function factPart() {
  const [label, value] = ["lp-fact-label", "lp-fact-value"].map((name) => element("span", { class: name }));
  return element("div", { class: "lp-fact", role: "listitem" }, label, value);
}

function factsPart() {
  const root = element("div", { class: "lp-facts", role: "list" });
  return {
    root,
    draw(facts = []) {
      root.hidden = !facts.length;
      const nodes = repeat(root, facts.length, () => factPart());
      facts.forEach((fact, at) => {
        setText(nodes[at].children[0], fact.label);
        setText(nodes[at].children[1], fact.value);
      });
    },
  };
}

function render({ model, el }) {
  const banner = bannerPart();
  const pool = poolPart();
  const waiting = waitingPart();
  const facts = factsPart();
  const figures = element("div", { class: "lp-figures" });
  const charts = [];
  const controls = model.get("controls").map((spec) => ({ name: spec.name, kind: spec.kind, ...CONTROLS[spec.kind](model, spec) }));
  const column = element("section", { class: "lp-controls", "aria-label": "Controls" });
  column.append(...controls.filter((each) => each.kind !== "action").map((each) => each.root));
  const actions = controls.filter((each) => each.kind === "action").map((each) => each.root);
  if (actions.length) column.append(element("div", { class: "lp-actions" }, ...actions));
  const root = element(
    "div", { class: "lp" },
    element(
      "div", { class: "lp-card" }, banner.root,
      element("div", { class: "lp-body" }, column, pool.root, waiting.root, figures, facts.root),
    ),
  );
  el.append(root);
  const unfollow = followTheme(root);

  let newsAt = performance.now();
  const noticeOf = (state, silent) => {
    if (state.notice) return state.notice;
    if (state.closed) return "This panel is closed. Run its cell again to open it.";
    return silent ? "No news from the kernel: it has been restarted or has ended. Run this cell again." : null;
  };

  const ask = frameOf(() => {
    const state = model.get("state");
    const silent = !state.closed && performance.now() - newsAt > SILENCE;
    const disabled = new Set(state.disabled ?? []);
    setAttribute(root, "data-closed", state.closed || silent);
    banner.draw({ ...state, busy: silent ? null : state.busy, notice: noticeOf(state, silent) });
    for (const control of controls) control.draw(state, Boolean(state.closed) || disabled.has(control.name));
    pool.draw(state.pool);
    waiting.draw(state.waiting);
    const wanted = state.charts ?? [];
    while (charts.length > wanted.length) { const last = charts.pop(); last.close(); last.root.remove(); }
    while (charts.length < wanted.length) { const chart = chartPart(); charts.push(chart); figures.append(chart.root); }
    wanted.forEach((data, at) => charts[at].draw(data));
    facts.draw(state.facts);
    setAttribute(root, "data-alone", !state.pool && !wanted.length);
  });
  const hear = () => { newsAt = performance.now(); ask(); };
  const watch = setInterval(() => { if (performance.now() - newsAt > SILENCE) ask(); }, 1000);
  model.on("change:state", hear);
  ask();
  return () => {
    model.off("change:state", hear);
    clearInterval(watch);
    ask.cancel();
    for (const part of [...controls, ...charts, pool, waiting]) part.close();
    unfollow();
    root.remove();
  };
}

export default { render };
