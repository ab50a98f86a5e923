"use strict";
const page = JSON.parse(document.getElementById("data").textContent);

// Texts of data sets reach the page as text nodes and attributes only, never as markup.
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "circle", "text", "g", "rect"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter(child => child !== null && child !== undefined));
  return node;
}

const percent = share => share === null ? "–" : `${(100 * share).toFixed(share < .00995 && share > 0 ? 2 : 1)} %`;
const count = number => number.toLocaleString("en");
const rate = share => `${Number((100 * share).toPrecision(3))} %`;
const short = value => String(Number(value.toPrecision(4)));
const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

/* Tables: a cell is a text, or {text, value, sub}; a click on a head sorts by it. */

function cellOf(cell) {
  if (typeof cell !== "object") return make("td", {}, cell);
  return make("td", { class: "number", "data-value": cell.value }, cell.text, cell.sub ? make("small", {}, cell.sub.trim()) : null);
}

function table(head, rows, open) {
  const body = make("tbody");
  const fill = ordered => body.replaceChildren(...ordered.map(([name, ...cells]) => make("tr", {},
    make("th", { scope: "row" }, open ? make("button", { click: () => open(name) }, name) : name), cells.map(cellOf))));
  let last = null, sign = -1;
  const sort = k => {
    sign = last === k ? -sign : -1;
    last = k;
    const key = row => typeof row[k] === "object" ? row[k].value : row[k];
    fill([...rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * (typeof x === "number" ? x - y : String(x).localeCompare(String(y)));
    }));
    heads.forEach((th, i) => i === k ? th.setAttribute("aria-sort", sign < 0 ? "descending" : "ascending") : th.removeAttribute("aria-sort"));
  };
  const heads = head.map((text, k) => make("th", { scope: "col", class: typeof (rows[0] || [])[k] === "object" ? "number" : null },
    text && rows.length > 1 ? make("button", { click: () => sort(k) }, text) : text));
  fill(rows);
  return make("div", { class: "wide" }, make("table", {}, make("thead", {}, make("tr", {}, heads)), body));
}

/* Charts: drawn anew for each width, so that text keeps its size. */

function ticks(low, high, most) {
  const raw = (high - low) / most || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(n => n * power).find(n => n >= raw), found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) found.push(Number((n * step).toPrecision(12)));
  return found;
}

function chart({ lines, x, y, height, steps, label, xlabel, showY = short, showX = short, log }) {
  const holder = make("div", { class: "chart" });
  const chart = { holder, marks: () => [] };
  chart.draw = () => {
    const width = Math.max(holder.clientWidth, 200), left = 40, right = 14, top = 14, bottom = xlabel ? 34 : 20;
    const place = value => log ? Math.log10(value) : value;
    const [x0, x1] = x.map(place);
    chart.toX = value => left + (width - left - right) * Math.min(Math.max((place(value) - x0) / (x1 - x0 || 1), 0), 1);
    chart.fromX = pixel => x0 + (pixel - left) / (width - left - right) * (x1 - x0);
    chart.toY = value => height - bottom - (height - top - bottom) * (value - y[0]) / (y[1] - y[0] || 1);
    const svg = make("svg", { height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
    for (const value of ticks(y[0], y[1], height > 200 ? 5 : 2)) {
      svg.append(make("line", { class: "grid", x1: left, x2: width - right, y1: chart.toY(value), y2: chart.toY(value) }),
        make("text", { x: left - 6, y: chart.toY(value) + 4, "text-anchor": "end" }, showY(value)));
    }
    for (const value of ticks(x0, x1, width / 80).filter(n => !log || Number.isInteger(n))) {
      const at = log ? 10 ** value : value;
      svg.append(make("text", { x: chart.toX(at), y: height - bottom + 15, "text-anchor": "middle" }, showX(at)));
    }
    if (xlabel) svg.append(make("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, xlabel));
    for (const { xs, ys, style, colour } of lines) {
      let d = "", before = null;
      xs.forEach((value, i) => {
        if (ys[i] === null) { before = null; return; }
        const [px, py] = [chart.toX(value).toFixed(1), chart.toY(ys[i]).toFixed(1)];
        d += before === null ? `M${px},${py}` : steps === "before" ? `V${py}H${px}` : steps ? `H${px}V${py}` : `L${px},${py}`;
        before = py;
      });
      svg.append(make("path", { class: `curve ${style || ""}`, d, style: colour ? `stroke:${colour}` : null }));
    }
    chart.layer = make("g");
    svg.append(chart.layer);
    holder.replaceChildren(svg);
    chart.update();
  };
  chart.update = () => chart.layer && chart.layer.replaceChildren(...chart.marks(chart));
  new ResizeObserver(() => { if (holder.clientWidth !== chart.width) { chart.width = holder.clientWidth; chart.draw(); } }).observe(holder);
  return chart;
}

// A share below one in ten thousand is a matter of single pixels.
const LEAST = 1e-4;
const lowestOf = lines => Math.min(...lines.flatMap(line => line.xs.filter(value => value >= LEAST)), .1);

const legend = entries => make("div", { class: "legend" }, entries.map(([text, style, colour]) =>
  make("span", { class: style }, make("i", { class: style, style: colour ? `border-color:${colour}` : null }), text)));

/* One run: what each threshold does. Every number is one that the package counted at that threshold. */

function explore(run) {
  const told = run.evidence, stops = told.thresholds, promise = run.promise || {}, unit = told.unit;
  const roles = ["known", "negative", "unknown"].filter(role => told[role].decisions);
  const share = (role, i, kind = "accepted") => told[role].decisions ? told[role][kind][i] / told[role].decisions : null;
  let chosen = told.chosen, shown = "";
  const listeners = [];
  const choose = i => { chosen = Math.min(Math.max(i, 0), stops.length - 1); listeners.forEach(update => update()); };

  const useful = stops.map((_, i) => i).filter(i => roles.some(role => share(role, i) > .001) && roles.some(role => share(role, i) < .999));
  const range = useful.length > 1 ? [stops[useful[0]], stops[useful[useful.length - 1]]] : [stops[0], stops[stops.length - 1]];
  if (range[0] === range[1]) range[1] = range[0] + 1;
  range[0] = Math.min(range[0], stops[told.chosen]);
  range[1] = Math.max(range[1], stops[told.chosen]);
  const lines = roles.map(role => ({ xs: stops, ys: stops.map((_, i) => share(role, i)), style: role }));
  lines.push({ xs: stops, ys: stops.map((_, i) => share("known", i, "right")), style: "known thin" });
  if (told.promise) lines.push({ xs: stops, ys: told.promise.bound, style: "dotted" });
  const sweep = chart({ lines, x: range, y: [0, 1], height: 300, steps: "before", showY: v => `${Math.round(100 * v)} %`,
    label: "Share accepted at each threshold", xlabel: told.relative ? "shift of all thresholds" : `threshold (${promise.score || "score"})` });
  const slider = sweep.holder;
  slider.classList.add("drag");
  for (const [name, value] of Object.entries({ role: "slider", tabindex: 0, "aria-label": "Threshold", "aria-valuemin": stops[0], "aria-valuemax": stops[stops.length - 1] })) slider.setAttribute(name, value);
  sweep.marks = ({ toX, toY }) => [make("line", { class: "handle", x1: toX(stops[chosen]), x2: toX(stops[chosen]), y1: 7, y2: toY(0) }),
    make("circle", { class: "knob", cx: toX(stops[chosen]), cy: 7, r: 7 }),
    ...roles.map(role => make("circle", { class: `mark ${role}`, cx: toX(stops[chosen]), cy: toY(share(role, chosen)), r: 4.5 }))];
  const nearest = value => stops.reduce((best, stop, i) => Math.abs(stop - value) < Math.abs(stops[best] - value) ? i : best, 0);
  const follow = event => choose(nearest(sweep.fromX(event.clientX - slider.getBoundingClientRect().left)));
  let held = false;
  slider.addEventListener("pointerdown", event => { held = true; slider.setPointerCapture(event.pointerId); follow(event); });
  slider.addEventListener("pointermove", event => { if (held) follow(event); });
  for (const name of ["pointerup", "pointercancel"]) slider.addEventListener(name, () => { held = false; });
  const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -stops.length, End: stops.length };
  slider.addEventListener("keydown", event => { if (event.key in moves) { event.preventDefault(); choose(chosen + moves[event.key]); } });
  const typed = make("input", { type: "text", inputmode: "decimal", id: "typed", change: () => {
    const value = parseFloat(typed.value);
    choose(Number.isNaN(value) ? chosen : nearest(value));
  } });

  const numbers = make("div", { class: "figures" }), vow = make("p", { class: "promise", "aria-live": "polite" });
  const figure = (id, role, share, text, note) => make("div", { class: role },
    make("span", {}, make("i", { class: "dot" }), text), make("strong", { "data-figure": id, "data-value": share }, percent(share)), make("span", {}, note));
  listeners.push(() => {
    const of = (role, kind = "accepted") => `${count(told[role][kind][chosen])} of ${plural(told[role].decisions, unit)}`;
    numbers.replaceChildren(...(roles.includes("known") ? [figure("ccr", "known", share("known", chosen, "right"), "knowns answered rightly", of("known", "right"))] : []),
      ...roles.map(role => figure(role, role, share(role, chosen), `${role}s accepted`, of(role))));
    slider.setAttribute("aria-valuenow", stops[chosen]);
    slider.setAttribute("aria-valuetext", `${short(stops[chosen])}: ${roles.map(role => `${percent(share(role, chosen))} of ${role}s accepted`).join(", ")}`);
    typed.value = short(stops[chosen]);
    vow.replaceChildren(...promiseAt(chosen));
    sweep.update();
  });
  function promiseAt(i) {
    const each = promise.classes ? " of each class" : "", asked = promise.target, upper = promise.rule !== "coverage";
    const bound = told.promise ? told.promise.bound[i] : i === told.chosen ? promise.bound ?? null : null;
    if (bound === null || bound === undefined) return ["What is promised at this threshold is not known: the calibration's scores were not kept."];
    const what = promise.event || (upper ? "negatives accepted" : "knowns accepted");
    const holds = upper ? bound <= asked : bound >= asked;
    return [make("strong", { "data-figure": "bound", "data-value": bound }, `${upper ? "At most" : "At least"} ${percent(bound)}`),
      ` ${what}${each}, promised at ${rate(promise.confidence)} confidence for inputs like the calibration's. `,
      holds ? `That keeps the ${rate(asked)} asked for.` : `That is ${upper ? "more" : "less"} than the ${rate(asked)} asked for.`];
  }

  const oscr = roles.filter(role => role !== "known").map(role => ({ style: role, xs: stops.map((_, i) => share(role, i)).reverse(), ys: stops.map((_, i) => share("known", i, "right")).reverse() }));
  const lowest = lowestOf(oscr);
  oscr.forEach(line => { line.ys = line.ys.map((value, i) => line.xs[i] >= LEAST ? value : null); });
  const curve = oscr.length && roles.includes("known") ? chart({ lines: oscr, x: [10 ** Math.floor(Math.log10(lowest) + 1e-9), 1], y: [0, 1], height: 300, log: true, steps: true,
    showY: v => `${Math.round(100 * v)} %`, showX: v => `${Number((100 * v).toPrecision(2))} %`, label: "Knowns answered rightly against strangers accepted", xlabel: "strangers accepted" }) : null;
  if (curve) {
    curve.marks = ({ toX, toY }) => oscr.filter(line => share(line.style, chosen) > 0).map(line => make("circle", { class: `mark ${line.style}`, cx: toX(share(line.style, chosen)), cy: toY(share("known", chosen, "right")), r: 5 }));
    listeners.push(curve.update);
  }

  const pick = make("select", { id: "classes", change: () => filter(pick.value) });
  const filter = name => { shown = name; pick.value = name; listeners.forEach(update => update()); };
  const classes = [...told.classes].sort((a, b) => roles.indexOf(b.role) - roles.indexOf(a.role) || b.accepted[told.chosen] - a.accepted[told.chosen]);
  const view = [make("h2", {}, "Where to draw the line"),
    make("p", { class: "note" }, "Drag the line, use the arrow keys on it, or type a threshold: all numbers and pictures follow."),
    legend([...roles.map(role => [`${role}s accepted`, role]), ...(roles.includes("known") ? [["knowns answered rightly", "known thin"]] : []), ...(told.promise ? [["the promise", "dotted"]] : [])]), slider,
    make("div", { class: "controls" }, make("label", { for: "typed" }, told.relative ? "shift" : "threshold"), typed, make("button", { click: () => choose(told.chosen) }, "as calibrated")),
    numbers, vow];
  if (promise.new_classes) view.push(make("p", { class: "note", id: "new-classes" }, `At the calibrated threshold. ${promise.new_classes}`));
  if (classes.length) view.push(classTable(classes, () => chosen, promise, filter, () => shown, listeners));
  if (told.examples.length) view.push(gallery(run, () => chosen, () => shown, pick, listeners));
  if (curve) view.push(make("h2", {}, "At every price"), make("p", { class: "note" }, "How many knowns are answered rightly, against how many strangers are let in; the dots are the threshold above."),
    legend(oscr.map(line => [`${line.style}s`, line.style])), curve.holder);
  listeners.forEach(update => update());
  return view;
}

function classTable(classes, chosen, promise, filter, shown, listeners) {
  const most = 60, rows = classes.map(own => {
    const cell = kind => make("td", { class: "number share" });
    const [accepted, right, name] = [cell(), cell(), make("button", { "aria-pressed": "false", click: () => filter(shown() === own.name ? "" : own.name) }, own.name)];
    const row = make("tr", { class: own.role, "data-class": own.name }, make("th", { scope: "row" }, make("i", { class: "dot" }), name), make("td", {}, own.role), make("td", { class: "number" }, count(own.images)), accepted, own.right ? right : make("td"));
    const put = (td, value) => td.replaceChildren(make("span", { class: "figure", "data-value": value }, percent(value)), make("i", {}, make("b", { style: `width:${100 * value}%` })));
    listeners.push(() => {
      put(accepted, own.accepted[chosen()]);
      if (own.right) put(right, own.right[chosen()]);
      row.classList.toggle("broken", own.role !== "known" && promise.rule !== "coverage" && own.accepted[chosen()] > promise.target);
      name.setAttribute("aria-pressed", shown() === own.name);
    });
    return row;
  });
  const body = make("tbody", {}, rows.slice(0, most));
  const more = rows.length > most ? make("button", { class: "more", click: () => { body.append(...rows.slice(most)); more.remove(); } }, `${rows.length - most} more classes`) : null;
  return make("div", {}, make("h3", {}, "Class by class"), make("div", { class: "wide" }, make("table", { id: "by-class" }, make("thead", {}, make("tr", {}, ["class", "role", "images", "accepted", "right"].map((text, k) => make("th", { scope: "col", class: k > 1 ? "number" : null }, text)))), body)), more);
}

function gallery(run, chosen, shown, pick, listeners) {
  const told = run.evidence, stops = told.thresholds, sheet = told.thumbnails, size = 76, number = page.runs.indexOf(run), open = new Set();
  if (sheet) document.head.append(make("style", {}, `.sheet-${number}{background-image:url(${sheet.url});background-size:${sheet.columns * size}px}`));
  const side = (own, stop) => own.role !== "known" ? (own.score >= stop ? "stranger" : null) : own.score < stop ? "refused" : own.kind === "wrong" ? "wrong" : null;
  const counted = told.unit !== "pixel" ? { stranger: i => told.negative.accepted[i] + told.unknown.accepted[i], wrong: i => told.known.accepted[i] - told.known.right[i],
    refused: i => told.known.decisions - told.known.accepted[i] } : {};
  const order = told.examples.map((own, i) => i).sort((a, b) => (told.examples[a].kind === "refused" ? 1 : -1) * (told.examples[a].score - told.examples[b].score));
  const tiles = told.examples.map((own, i) => {
    const style = sheet ? `background-position:${-(i % sheet.columns) * size}px ${-Math.floor(i / sheet.columns) * size}px` : "";
    const text = own.true === own.answer ? own.true : `${own.true} → ${own.answer}`;
    return make("li", { class: own.role, title: own.name }, sheet ? make("div", { class: `picture sheet-${number}${sheet.side <= 48 ? " pixels" : ""}`, style, role: "img", "aria-label": `${own.name}: ${text}` }) : null,
      make("i", { class: "dot" }), text, make("br"), short(own.score));
  });
  const kinds = { stranger: "Strangers let in", wrong: "Knowns answered wrongly", refused: "Knowns refused", left: "Mistakes at the calibrated threshold, not here" };
  const holders = Object.entries(kinds).map(([kind, title]) => {
    const [head, list] = [make("h3"), make("ul", { class: "tiles", "data-kind": kind })];
    const more = make("button", { class: "more", click: () => { open.add(kind); listeners.forEach(update => update()); } });
    return { kind, title, head, list, more, all: make("div", {}, head, list, more) };
  });
  pick.append(make("option", { value: "" }, "all classes"), ...[...new Set(told.examples.map(own => own.true))].sort().map(name => make("option", { value: name }, name)));
  listeners.push(() => {
    const [stop, before] = [stops[chosen()], stops[told.chosen]];
    for (const { kind, title, head, list, more, all } of holders) {
      const rows = order.map(i => [told.examples[i], tiles[i]]).filter(([own]) => (!shown() || own.true === shown()) &&
        (kind === "left" ? side(own, before) && !side(own, stop) : side(own, stop) === kind));
      const moved = own => side(own, before) !== side(own, stop);
      rows.forEach(([own, tile]) => { tile.classList.toggle("moved", kind !== "left" && moved(own)); tile.classList.toggle("left", kind === "left"); });
      const fresh = kind === "left" ? 0 : rows.filter(([own]) => moved(own)).length, total = !shown() && counted[kind] ? counted[kind](chosen()) : rows.length;
      head.replaceChildren(title, make("small", { class: "note" }, ` ${rows.length}${total > rows.length ? ` of ${count(total)}` : ""}${fresh ? `, ${fresh} not at the calibrated threshold` : ""}`));
      const room = open.has(kind) ? rows.length : 27;
      rows.forEach(([, tile], i) => { tile.hidden = i >= room; });
      more.hidden = rows.length <= room;
      more.replaceChildren(`all ${rows.length}`);
      list.replaceChildren(...rows.map(([, tile]) => tile));
      all.hidden = !rows.length;
    }
  });
  return make("div", {}, make("h2", {}, "What it gets wrong"),
    make("p", { class: "note" }, `The worst of each class, with the true class, the answer and the score${told.unit === "pixel" ? ": parts of images, by the median of their pixels" : ""}. What changes sides when the threshold moves is outlined.`),
    make("div", { class: "controls" }, make("label", { for: "classes" }, "true class"), pick), holders.map(own => own.all));
}

/* The rest of a run. */

function trainingCurves(run) {
  const parts = ["train", "validation"];
  const small = run.curves.filter(own => new Set(parts.flatMap(part => own[part] || []).filter(value => value !== null)).size > 1).map(own => {
    const lines = parts.filter(part => own[part]).map(part => ({ style: part, ys: own[part], xs: own[part].map((_, i) => i + 1) }));
    const values = lines.flatMap(line => line.ys).filter(value => value !== null), most = Math.max(...lines.map(line => line.xs.length));
    const drawn = chart({ lines, x: [1, Math.max(most, 2)], y: [Math.min(...values), Math.max(...values)], height: 120, label: own.name });
    return make("figure", {}, make("figcaption", {}, own.name), drawn.holder);
  });
  return small.length ? [make("h2", {}, "Training"), legend([["training", "train"], ["validation", "validation"]]), make("div", { class: "small" }, small)] : [];
}

function details(run) {
  const reproduce = ["again", "directory", "commit"];
  return [...(run.evidence ? explore(run) : [make("p", { class: "note" }, "This run left no evidence.json: judge it again, with python -m cplus1_keras.judge, for a threshold to drag.")]),
    make("h2", {}, "Figures"), make("div", { class: "tables" }, run.tables.map(own => make("div", {}, make("h3", {}, own.title), table(own.head, own.rows), make("p", { class: "note" }, own.note)))),
    ...trainingCurves(run),
    ...(run.pictures.length ? [make("h2", {}, "Pictures"), make("div", { class: "pictures" }, run.pictures.map(own => make("figure", {}, make("img", { src: own.url, alt: own.name, width: own.width, height: own.height }), make("figcaption", {}, own.name))))] : []),
    make("h2", {}, "What was done"), make("dl", {}, run.facts.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, reproduce.includes(name) ? make("code", {}, text) : text)]))];
}

function compared(comparison, open) {
  const found = page.runs.filter(run => run.evidence && comparison.group && run.evidence[comparison.group].decisions).slice(0, 8);
  const view = [make("h2", {}, "Side by side"), table(comparison.head, comparison.rows, open), make("p", { class: "note" }, comparison.note)];
  if (!found.length) return view;
  const colour = i => page.colours[i % page.colours.length];
  const lines = found.map((run, i) => {
    const told = run.evidence, group = told[comparison.group];
    const xs = group.accepted.map(n => n / group.decisions).reverse(), ys = told.known.right.map(n => n / told.known.decisions).reverse();
    return { xs, ys: ys.map((value, k) => xs[k] >= LEAST ? value : null), colour: colour(i), style: i >= page.colours.length ? "thin" : "" };
  });
  const lowest = lowestOf(lines);
  const curve = chart({ lines, x: [10 ** Math.floor(Math.log10(lowest) + 1e-9), 1], y: [0, 1], height: 340, log: true, steps: true, showY: v => `${Math.round(100 * v)} %`,
    showX: v => `${Number((100 * v).toPrecision(2))} %`, label: "OSCR curves", xlabel: `${comparison.group}s accepted` });
  return [...view, make("h3", {}, `Knowns answered rightly against ${comparison.group}s accepted${found.length < page.runs.length ? `, ${found.length} runs` : ""}`),
    legend(found.map((run, i) => [run.name, i >= page.colours.length ? "thin" : "", colour(i)])), curve.holder];
}

document.title = page.title;
const root = document.getElementById("page"), place = make("section");
root.replaceChildren(make("h1", {}, page.title), make("p", { class: "verdict" }, page.verdict));
if (page.comparison) {
  const pick = make("select", { id: "runs", change: () => show(pick.value) }, page.runs.map(run => make("option", { value: run.name }, run.name)));
  const head = make("h2", {});
  const show = name => {
    const run = page.runs.find(own => own.name === name);
    pick.value = name;
    head.replaceChildren(name);
    place.replaceChildren(make("p", { class: "verdict" }, run.verdict), ...details(run));
  };
  root.append(...compared(page.comparison, name => { show(name); head.scrollIntoView(); pick.focus({ preventScroll: true }); }), head,
    make("div", { class: "controls" }, make("label", { for: "runs" }, "run"), pick), place);
  show(page.runs[0].name);
} else {
  root.append(place);
  place.replaceChildren(...details(page.runs[0]));
}
