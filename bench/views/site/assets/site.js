// SPDX-License-Identifier: Apache-2.0
// What the front page adds to its table: sorting, search, limits, the plot, chosen rows. All state is in the address.
(function () {
  "use strict";
  const by = (id) => document.getElementById(id);
  const data = JSON.parse(by("data").textContent);
  const table = by("rows");
  const heads = Array.from(table.tHead.rows[0].cells);
  const column = Object.fromEntries(heads.map((head, index) => [head.dataset.key, index]));
  const rows = Array.from(table.tBodies[0].rows);
  const inputs = ["device", "precision", "memory", "decode", "loss", "price", "search"];
  const picked = new Set();
  let preset = "c";
  let waiting = 0;

  for (const row of rows) {
    row.cells[column.loss].classList.add("quality");
    const pick = document.createElement("button");
    pick.type = "button";
    pick.className = "pick";
    pick.textContent = "+";
    pick.ariaLabel = "choose " + row.cells[0].textContent + " " + row.cells[1].textContent;
    pick.ariaPressed = "false";
    row.cells[0].prepend(pick);
  }

  // Every cell of a row: hidden columns are taken out of it later.
  const held = new Map(rows.map((row) => [row.id, Array.from(row.cells)]));
  const said = (id, index) => (index ? held.get(id)[index] : held.get(id)[0].querySelector("a")).textContent;

  const view = new DataTable(table, {
    paging: rows.length > 300, pageLength: 100, lengthMenu: [100, 500, -1], order: [], autoWidth: false,
    layout: { topStart: null, topEnd: null, bottomStart: rows.length > 300 ? "info" : null, bottomEnd: rows.length > 300 ? "paging" : null },
    columnDefs: heads.map((head, index) => ({ targets: index, type: head.dataset.numeric ? "num" : "string" })),
    language: { emptyTable: "no rows yet", zeroRecords: "no row matches" },
  });

  const number = (id) => (by(id).value === "" ? null : Number(by(id).value));
  const told = (row, name) => (row.dataset[name] === undefined ? null : Number(row.dataset[name]));

  // A limit that a row cannot prove to keep is not kept: what was not measured is dim too.
  function keeps(row) {
    const memory = number("memory"), decode = number("decode"), loss = number("loss");
    if (memory !== null && !(told(row, "memory") !== null && told(row, "memory") <= memory)) return false;
    if (decode !== null && !(told(row, "low") !== null && told(row, "low") >= decode)) return false;
    if (loss === null) return true;
    if (row.dataset.verdict === "undecided" || row.dataset.verdict === "not measured") return false;
    return told(row, "loss") !== null && told(row, "loss") <= loss / 100;
  }

  let priced = false;
  function cost(row) {
    const price = number("price"), decode = told(row, "decode");
    return price === null || !decode ? null : (price / 3600 / decode) * 1e6;
  }

  function apply() {
    const device = by("device").value, precision = by("precision").value;
    view.search.fixed("chosen", (text, cells, index) => {
      const row = rows[index];
      return (!device || row.dataset.device === device) && (!precision || row.dataset.precision === precision);
    });
    for (const row of rows) {
      row.classList.toggle("dim", !keeps(row));
    }
    if (priced || number("price") !== null) price();
    view.search(by("search").value).draw();
    status();
    clearTimeout(waiting);
    waiting = setTimeout(plot, 150); // after the last letter that is typed
    remember();
  }

  function price() {
    priced = number("price") !== null;
    for (const row of rows) {
      const value = cost(row), cell = view.cell(row, column.cost), node = cell.node();
      if (!node) continue;
      node.textContent = value === null ? "-" : value.toPrecision(3);
      node.dataset.order = value === null ? "" : String(value);
      cell.invalidate("dom");
    }
  }

  function shown() {
    return Array.from(view.rows({ search: "applied" }).nodes());
  }

  function status() {
    const visible = shown(), kept = visible.filter(keeps);
    by("status").textContent = visible.length + " rows, " + kept.length + " keep the limits";
  }

  function columns(name) {
    preset = name;
    for (const button of document.querySelectorAll("[data-preset]")) {
      button.setAttribute("aria-pressed", String(button.dataset.preset === name));
    }
    heads.forEach((head, index) => view.column(index).visible(head.dataset.presets.includes(name), false));
    view.columns.adjust();
  }

  function choose(id) {
    if (picked.has(id)) picked.delete(id);
    else picked.add(id);
    marked();
    remember();
  }

  let shownAsPicked = [];
  function marked() {
    const changed = new Set([...shownAsPicked, ...chosenRows()]);
    shownAsPicked = chosenRows();
    for (const row of changed) {
      const on = picked.has(row.id), button = row.querySelector("button.pick");
      row.classList.toggle("picked", on);
      button.textContent = on ? "−" : "+";
      button.setAttribute("aria-pressed", String(on));
    }
    by("basket").hidden = picked.size === 0;
    by("chosen").replaceChildren(...chosenRows().map((row) => {
      const item = document.createElement("li");
      item.textContent = cells(row).join(" · ");
      return item;
    }));
  }

  const chosenRows = () => rows.filter((row) => picked.has(row.id));
  const used = () => heads.filter((head) => head.dataset.presets.includes(preset) || head.dataset.key === "device");
  const titles = () => used().map((head) => data.titles[head.dataset.key]);
  function cells(row) {
    return used().map((head) => head.dataset.key === "cost" && cost(row) !== null
      ? cost(row).toPrecision(3) : said(row.id, column[head.dataset.key]));
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
  function dominates(one, other) {
    const proved = ["reference", "equivalent", "better"];
    return one !== other && one.memory <= other.memory && one.decode >= other.decode &&
      (one.memory !== other.memory || one.decode !== other.decode) &&
      (proved.includes(one.verdict) || other.verdict === "worse");
  }

  function points() {
    const found = shown().filter((row) => told(row, "memory") !== null && told(row, "decode") !== null).map((row) => ({
      id: row.id, name: said(row.id, 0) + " " + said(row.id, column.precision), loss: said(row.id, column.loss),
      memory: told(row, "memory"), decode: told(row, "decode"), low: told(row, "low"), high: told(row, "high"), verdict: row.dataset.verdict,
    }));
    for (const point of found) {
      point.dominated = found.some((other) => dominates(other, point)) || !keeps(rowOf(point.id));
    }
    const front = [];
    let best = 0;
    for (const point of found.filter((one) => !one.dominated && one.verdict !== "worse").sort((a, b) => a.memory - b.memory || b.decode - a.decode)) {
      if (point.decode > best) {
        best = point.decode;
        front.push({ memory: point.memory, decode: best });
      }
    }
    return { found, front };
  }

  const rowOf = (id) => rows.find((row) => row.id === id);

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
    const { found, front } = points();
    by("figure").hidden = found.length === 0;
    if (!found.length) return;
    const style = getComputedStyle(document.body);
    const spec = structuredClone(data.spec);
    spec.datasets = { points: found, front };
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
    const state = new URLSearchParams(location.hash.slice(1));
    for (const id of inputs) by(id).value = state.get(id) || "";
    if (!state.has("device") && data.device) by("device").value = data.device;
    columns(["c", "p", "e"].includes(state.get("columns")) ? state.get("columns") : "c");
    const order = (state.get("sort") || "").split(",").map((one) => one.split(".")).filter(([key, way]) => key in column && ["asc", "desc"].includes(way));
    view.order(order.map(([key, way]) => [column[key], way]));
    for (const id of (state.get("rows") || "").split(",")) if (rowOf(id)) picked.add(id);
    marked();
    apply();
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
  document.documentElement.dataset.readyMs = String(Math.round(performance.now()));
  document.documentElement.dataset.ready = "yes";
  setTimeout(load, 0);
})();
