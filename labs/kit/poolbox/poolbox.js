// The pool box: a pool of a few connections, filled and emptied by clicking.

const LARGE_SLOTS = [[84, 12, 128, 18], [84, 8, 96, 16], ...SLOT_SIZES];

function linePart() {
  const title = element("h3", { class: "lp-title" });
  const note = element("span", { class: "lp-note" });
  const rows = element("ol", { class: "lp-line-rows" });
  const root = element("section", { class: "lp-line-part" }, element("header", { class: "lp-head" }, title, note), rows);
  const makeRow = () => {
    const name = element("span", { class: "lp-line-name" });
    const bar = element("span", { class: "lp-line-bar", "aria-hidden": "true" });
    const time = element("span", { class: "lp-line-time" });
    return Object.assign(element("li", { class: "lp-line-row" }, name, bar, time), { name_: name, bar, time });
  };
  return {
    root,
    draw({ line = [], timeout }) {
      setText(title, line.length ? `The line, ${line.length}` : "The line, nobody");
      setText(note, `gives up after ${formatNumber(timeout)} s`);
      const nodes = repeat(rows, line.length, makeRow);
      line.forEach((each, at) => {
        setText(nodes[at].name_, `borrower ${each.borrower}`);
        setText(nodes[at].time, formatSeconds(each.waited));
        setVariable(nodes[at].bar, "--share", Math.min(1, each.waited / timeout).toFixed(3));
      });
    },
  };
}

function timeoutsPart() {
  const title = element("h3", { class: "lp-title" });
  const message = element("pre", { class: "lp-error" });
  const root = element("section", { class: "lp-timeouts", role: "status" }, element("header", { class: "lp-head" }, title), message);
  return {
    root,
    draw({ timed_out: gone = [] }) {
      root.hidden = !gone.length;
      if (!gone.length) return;
      const last = gone.at(-1);
      const others = gone.length > 1 ? `, and ${gone.length - 1} before` : "";
      setText(title, `Borrower ${last.borrower} gave up after ${formatSeconds(last.waited)}${others}. SQLAlchemy's words:`);
      setText(message, last.message);
    },
  };
}

function render({ model, el }) {
  const banner = bannerPart();
  const pool = poolPart({ height: 180, sizes: LARGE_SLOTS, onPress: (index) => model.send({ kind: "give_back", slot: index + 1 }) });
  const line = linePart();
  const timeouts = timeoutsPart();
  const borrow = element("button", { ...OWN_KEYS, type: "button", class: "lp-button lp-borrow" }, "Borrow a connection");
  const again = element("button", { ...OWN_KEYS, type: "button", class: "lp-button" }, "Start over");
  borrow.addEventListener("click", () => model.send({ kind: "borrow" }));
  again.addEventListener("click", () => model.send({ kind: "start_over" }));
  const root = element(
    "div", { class: "lp lp-poolbox" },
    element(
      "div", { class: "lp-card" }, banner.root,
      element(
        "div", { class: "lp-box-body" }, pool.root, line.root,
        element("div", { class: "lp-box-actions" }, borrow, again), timeouts.root,
      ),
    ),
  );
  el.append(root);
  const unfollow = followTheme(root);
  const ask = frameOf(() => {
    const state = model.get("state_shown");
    const closed = "This pool is closed. Run its cell again to open it.";
    banner.draw(state.closed ? { ...state, notice: closed } : state);
    pool.draw(state.pool);
    line.draw(state);
    timeouts.draw(state);
    for (const button of [borrow, again]) button.disabled = Boolean(state.closed);
  });
  model.on("change:state_shown", ask);
  ask();
  return () => {
    model.off("change:state_shown", ask);
    ask.cancel();
    pool.close();
    unfollow();
    root.remove();
  };
}

export default { render };
