// SPDX-License-Identifier: Apache-2.0
// What the front page adds to its table: sorting, search, limits, the plot, chosen rows. All state is in the address.
(function () {
  "use strict";
  if (!window.DataTable) throw new Error("the table's library did not come"); // and all rows stay as they are
  const by = (id) => document.getElementById(id);
  const data = JSON.parse(by("data").textContent);
  const table = by("rows");
  const heads = Array.from(table.tHead.rows[0].cells);
  const column = Object.fromEntries(heads.map((head, index) => [head.dataset.key, index]));
  // The page's own rows are what is read from here on; the table holds a copy of those that it shows.
  const sources = table.tBodies[0];
  sources.replaceWith(document.createElement("tbody"));
  const rows = Array.from(sources.rows);
  const inputs = ["device", "precision", "memory", "decode", "loss", "price", "search"];
  const picked = new Set();
  let preset = "c";
  let waiting = 0;

  const number = (id) => (by(id).value === "" ? null : Number(by(id).value));
  const told = (row, name) => (row.dataset[name] === undefined ? null : Number(row.dataset[name]));
  let limits = { memory: null, decode: null, loss: null, price: null };
  const byId = new Map(rows.map((row) => [row.id, row]));
  const said = (row, key) => row.cells[column[key]].textContent;
  const options = () => new URLSearchParams(location.hash.slice(1));
  const presetOf = (state) => (["c", "p", "e"].includes(state.get("columns")) ? state.get("columns") : "c");
  const shows = (head, name) => head.dataset.presets.includes(name);

  // A number that is not known stands last, whichever way.
  const known = (way) => (one, other) => (one === null) - (other === null) || way * (one - other);
  Object.assign(DataTable.ext.type.order, { "known-asc": known(1), "known-desc": known(-1) });

  // What a cell holds for the table: read when it is shown, sorted by or searched, of thousands of rows never all.
  function reader(key, numeric) {
    const at = column[key];
    return (row, type) => {
      if (key === "cost") return type === "sort" ? cost(row) : costText(row);
      const cell = row.cells[at];
      if (type === "sort" && numeric) return cell.dataset.order ? Number(cell.dataset.order) : null;
      return type === "display" ? cell.innerHTML : cell.textContent;
    };
  }

  // A row as it is shown: what the page's own row says of itself, and the button that chooses it.
  function created(shown, row, index, cells) {
    const pick = document.createElement("button");
    Object.assign(pick, { type: "button", className: "pick", ariaLabel: "choose " + said(row, "model") + " " + said(row, "precision") });
    shown.id = row.id;
    Object.assign(shown.dataset, row.dataset);
    cells[0].scope = "row";
    cells[0].prepend(pick);
    mark(shown, row);
  }

  function mark(shown, row) {
    const on = picked.has(row.id), pick = shown.cells[0].firstChild;
    shown.classList.toggle("picked", on);
    shown.classList.toggle("dim", !keeps(row));
    pick.textContent = on ? "−" : "+";
    pick.ariaPressed = String(on);
  }

  const many = rows.length > 300;
  const view = new DataTable(table, {
    data: rows, createdRow: created, rowCallback: mark,
    paging: many, pageLength: 100, lengthMenu: [100, 500, -1], order: [], autoWidth: false,
    layout: { topStart: null, topEnd: null, bottomStart: many ? "info" : null, bottomEnd: many ? "paging" : null },
    columnDefs: heads.map((head, index) => ({
      targets: index, type: head.dataset.numeric ? "known" : "string", data: reader(head.dataset.key, head.dataset.numeric),
      searchable: !head.dataset.numeric || head.dataset.key === "loss", visible: shows(head, presetOf(options())),
      cellType: index ? "td" : "th", className: head.dataset.key === "loss" ? "quality" : head.dataset.numeric ? "number" : "",
    })),
    language: { emptyTable: "no rows yet", zeroRecords: "no row matches" },
  });

  // A limit that a row cannot prove to keep is not kept: what was not measured is dim too.
  function keeps(row) {
    const { memory, decode, loss } = limits;
    if (memory !== null && !(told(row, "memory") !== null && told(row, "memory") <= memory)) return false;
    if (decode !== null && !(told(row, "low") !== null && told(row, "low") >= decode)) return false;
    if (loss === null) return true;
    if (row.dataset.verdict === "undecided" || row.dataset.verdict === "not measured") return false;
    return told(row, "loss") !== null && told(row, "loss") <= loss / 100;
  }

  function cost(row) {
    const { price } = limits, decode = told(row, "decode");
    return price === null || !decode ? null : (price / 3600 / decode) * 1e6;
  }

  function costText(row) {
    const value = cost(row);
    return value === null ? "-" : value.toPrecision(3);
  }

  function apply() {
    const device = by("device").value, precision = by("precision").value, before = limits.price;
    limits = Object.fromEntries(["memory", "decode", "loss", "price"].map((id) => [id, number(id)]));
    view.search.fixed("chosen", (text, row) =>
      (!device || row.dataset.device === device) && (!precision || row.dataset.precision === precision));
    if (limits.price !== before) view.cells(null, column.cost).invalidate("data");
    view.search(by("search").value).draw();
    status();
    clearTimeout(waiting);
    waiting = setTimeout(plot, 150); // after the last letter that is typed
    remember();
  }

  const found = () => Array.from(view.rows({ search: "applied" }).indexes(), (index) => rows[index]);

  function status() {
    const visible = found();
    by("status").textContent = visible.length + " rows, " + visible.filter(keeps).length + " keep the limits";
  }

  function columns(name) {
    preset = name;
    for (const button of document.querySelectorAll("[data-preset]")) {
      button.setAttribute("aria-pressed", String(button.dataset.preset === name));
    }
    heads.forEach((head, index) => {
      if (view.column(index).visible() !== shows(head, name)) view.column(index).visible(shows(head, name), false);
    });
    view.columns.adjust();
  }

  function choose(id) {
    if (picked.has(id)) picked.delete(id);
    else picked.add(id);
    marked();
    remember();
  }

  function marked() {
    for (const shown of Array.from(view.rows({ page: "current" }).nodes())) mark(shown, byId.get(shown.id));
    by("basket").hidden = picked.size === 0;
    by("chosen").replaceChildren(...chosenRows().map((row) => {
      const item = document.createElement("li");
      item.textContent = cells(row).join(" · ");
      return item;
    }));
  }

  const chosenRows = () => rows.filter((row) => picked.has(row.id));
  const used = () => heads.filter((head) => shows(head, preset) || head.dataset.key === "device");
  const titles = () => used().map((head) => data.titles[head.dataset.key]);
  function cells(row) {
    return used().map((head) => (head.dataset.key === "cost" ? costText(row) : said(row, head.dataset.key)));
  }

  const escapes = {
    markdown: (text) => text.replace(/([\\|`*_<>[\]])/g, "\\$1"),
    latex: (text) => text.replace(/\\/g, "\\textbackslash ").replace(/([&%$#_{}])/g, "\\$1").replace(/~/g, "\\textasciitilde ").replace(/\^/g, "\\textasciicircum ").replace(/±/g, "$\\pm$").replace(/−/g, "$-$"),
    csv: (text) => (/^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? "'" : "") + (/[",\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text),
  };

  function written(form) {
    const lines = chosenRows().map(cells), escape = escapes[form], clean = (line) => line.map(escape);
    if (form === "csv") return [titles(), ...lines].map((line) => clean(line).join(",")).join("\n") + "\n";
    if (form === "latex") {
      const body = [titles(), ...lines].map((line) => clean(line).join(" & ") + " \\\\");
      return ["\\begin{tabular}{" + "l".repeat(titles().length) + "}", "\\hline", body[0], "\\hline", ...body.slice(1), "\\hline", "\\end{tabular}"].join("\n") + "\n";
    }
    const line = (parts) => "| " + parts.join(" | ") + " |";
    return [line(clean(titles())), line(titles().map(() => "---")), ...lines.map((one) => line(clean(one)))].join("\n") + "\n";
  }

  async function copy(form) {
    const text = written(form);
    by("text").value = text;
    try {
      await navigator.clipboard.writeText(text);
      by("status").textContent = "copied " + picked.size + " rows as " + form;
    } catch (error) {
      by("text").select();
      by("status").textContent = "the text is selected below: copy it by hand";
    }
  }

  // The plot.
  let chart = null;
  // Whether another needs no more memory and is no slower, and is proved as good: by memory, the fastest so far.
  function dominate(points) {
    const proved = ["reference", "equivalent", "better"], order = Array.from(points).sort((a, b) => a.memory - b.memory || b.decode - a.decode);
    let any = -Infinity, good = -Infinity;
    for (let start = 0, end = 0; start < order.length; start = end) {
      const { memory, decode } = order[start]; // equal points do not dominate each other
      while (end < order.length && order[end].memory === memory && order[end].decode === decode) end += 1;
      const alike = order.slice(start, end);
      for (const point of alike) point.dominated = (point.verdict === "worse" ? any : good) >= decode;
      any = Math.max(any, decode);
      if (alike.some((point) => proved.includes(point.verdict))) good = Math.max(good, decode);
    }
  }

  function points() {
    const known = found().filter((row) => told(row, "memory") !== null && told(row, "decode") !== null);
    const all = known.map((row) => ({
      id: row.id, name: said(row, "model") + " " + said(row, "precision"), loss: said(row, "loss"),
      memory: told(row, "memory"), decode: told(row, "decode"), low: told(row, "low"), high: told(row, "high"), verdict: row.dataset.verdict,
    }));
    dominate(all);
    all.forEach((point, index) => { point.dominated = point.dominated || !keeps(known[index]); });
    const front = [];
    let best = 0;
    for (const point of all.filter((one) => !one.dominated && one.verdict !== "worse").sort((a, b) => a.memory - b.memory || b.decode - a.decode)) {
      if (point.decode > best) {
        best = point.decode;
        front.push({ memory: point.memory, decode: best });
      }
    }
    return { all, front };
  }

  // The plot's libraries are larger than all else: they are read when the table can be used.
  const needed = ["vega.min.js", "vega-lite.min.js", "vega-interpreter.js"];
  function load() {
    const name = needed.shift();
    if (!name) return plot();
    const script = document.createElement("script");
    script.src = "assets/" + name;
    script.addEventListener("load", load);
    document.head.append(script);
  }

  function plot() {
    if (needed.length || !window.vega || !vega.expressionInterpreter) return;
    const { all, front } = points();
    by("figure").hidden = all.length === 0;
    if (!all.length) return;
    const style = getComputedStyle(document.body);
    const spec = structuredClone(data.spec);
    spec.datasets = { points: all, front };
    spec.width = Math.max(260, by("plot").clientWidth || 600);
    const ink = { labelColor: style.color, titleColor: style.color };
    spec.config = { ...spec.config, axis: { ...spec.config.axis, ...ink, gridColor: "rgba(128,128,128,0.3)" }, legend: { ...spec.config.legend, ...ink }, view: { stroke: "rgba(128,128,128,0.4)" } };
    if (spec.width < 600) spec.config.legend = { ...spec.config.legend, orient: "bottom", columns: 3 };
    if (chart) chart.finalize();
    chart = new vega.View(vega.parse(vegaLite.compile(spec).spec, null, { ast: true }), {
      expr: vega.expressionInterpreter, renderer: "canvas", container: by("plot"), hover: true, loader: vega.loader({ load: () => Promise.reject(new Error("nothing is loaded")) }),
    });
    chart.tooltip((handler, event, item, value) => {
      const tip = by("tip");
      tip.hidden = !value;
      if (!value) return;
      tip.textContent = Object.entries(value).map(([name, text]) => name + ": " + text).join("\n");
      tip.style.left = event.clientX + 14 + "px";
      tip.style.top = event.clientY + 14 + "px";
    });
    chart.addEventListener("click", (event, item) => {
      if (item && item.datum && item.datum.id) choose(item.datum.id);
    });
    by("plot").view = chart; // where a point lies, for whoever asks
    chart.run();
  }

  // The address.
  function remember() {
    const state = new URLSearchParams();
    for (const id of inputs) if (by(id).value) state.set(id, by(id).value);
    if (preset !== "c") state.set("columns", preset);
    const order = view.order();
    if (order.length) state.set("sort", order.map(([index, way]) => heads[index].dataset.key + "." + way).join(","));
    if (picked.size) state.set("rows", Array.from(picked).join(","));
    history.replaceState(null, "", "#" + state.toString());
  }

  function restore() {
    const state = options();
    for (const id of inputs) by(id).value = state.get(id) || "";
    if (!state.has("device") && data.device) by("device").value = data.device;
    columns(presetOf(state));
    const order = (state.get("sort") || "").split(",").map((one) => one.split(".")).filter(([key, way]) => key in column && ["asc", "desc"].includes(way));
    view.order(order.map(([key, way]) => [column[key], way]));
    for (const id of (state.get("rows") || "").split(",")) if (byId.has(id)) picked.add(id);
    apply();
    marked();
    view.on("order", remember);
  }

  table.tBodies[0].addEventListener("click", (event) => {
    const pick = event.target.closest("button.pick");
    if (pick) choose(pick.closest("tr").id);
  });
  by("controls").hidden = false;
  by("controls").addEventListener("submit", (event) => event.preventDefault());
  for (const id of inputs) by(id).addEventListener("input", apply);
  for (const button of document.querySelectorAll("[data-preset]")) button.addEventListener("click", () => { columns(button.dataset.preset); marked(); remember(); });
  for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copy(button.dataset.copy));
  by("clear").addEventListener("click", () => { picked.clear(); marked(); remember(); });
  by("reset").addEventListener("click", () => { for (const id of inputs) by(id).value = ""; view.order([]); columns("c"); picked.clear(); marked(); apply(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", plot);
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(plot, 150); });
  restore();
  // Paper has no pages of rows to turn to, and the browser's own search sees what is on the page alone.
  const whole = (all) => { if (many && (view.page.len() === -1) !== all) view.page.len(all ? -1 : 100).draw(); };
  addEventListener("beforeprint", () => whole(true));
  addEventListener("afterprint", () => whole(false));
  addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "f") whole(true);
  });
  // Until the table is asked for something else: drawing thousands of rows takes too long for each letter typed.
  by("controls").addEventListener("input", () => whole(false), true);
  table.tHead.addEventListener("click", () => whole(false), true);
  document.documentElement.dataset.ready = "yes";
  void table.offsetHeight; // laid out too, so that the time is no promise
  document.documentElement.dataset.readyMs = String(Math.round(performance.now()));
  (window.requestIdleCallback || setTimeout)(load);
})();
