"use strict";
// What the report adds where scripts run: tables to sort, filter and copy, charts that answer to the pointer.
// Every text goes in as textContent: nothing here makes markup of it.
(() => {
  const settings = JSON.parse(document.getElementById("settings").textContent);
  const MISSING = "\u2013";

  function make(tag, given = {}, ...inner) {
    const { on = {}, ...rest } = given;
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(rest)) {
      if (name in element) element[name] = value;
      else element.setAttribute(name, value);
    }
    for (const [name, act] of Object.entries(on)) element.addEventListener(name, act);
    element.append(...inner);
    return element;
  }

  const button = (text, click, more = {}) => make("button", { type: "button", ...more, on: { click } }, text);

  const fill = (select, names) =>
    select.replaceChildren(...names.map((name, value) => make("option", { value }, name)));

  function chooser(label, change, names = []) {
    const select = make("select", { on: { change } });
    fill(select, names);
    return { select, label: make("label", {}, `${label} `, select) };
  }

  function numeric(text) {
    const plain = text.replace(/\u2212/g, "-").replace(/^[<>\u2248]\s*/, "").replace(/,(?=\d{3})/g, "");
    return /^[-+]?\d/.test(plain) ? parseFloat(plain) : NaN;
  }

  const main = (cell) => (cell.firstChild ? cell.firstChild.textContent.trim() : "");

  /** Numbers by size, other texts by their letters; what is missing comes last either way. */
  function compare(column, sign) {
    return (one, other) => {
      const [a, b] = [main(one.cells[column]), main(other.cells[column])];
      const [x, y] = [numeric(a), numeric(b)];
      if (a === MISSING || b === MISSING) return (a === MISSING) - (b === MISSING);
      if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return sign * (Number.isNaN(x) ? a.localeCompare(b) : x - y);
    };
  }

  /** The lines of a table below their headings, which stay where they are when lines are sorted. */
  function blocks(body) {
    const found = [{ heading: null, rows: [] }];
    for (const row of body.rows) {
      if (row.classList.contains("group")) found.push({ heading: row, rows: [] });
      else found[found.length - 1].rows.push(row);
    }
    return found;
  }

  const quoted = (text) => {
    const plain = text.replace(/\u2212/g, "-");
    const number = /^[-+]?[\d.]+(e[-+]?\d+)?( \[[-\d., ]+\])?$/i.test(plain);
    // A spreadsheet runs what begins like a formula (cells.py).
    const safe = /^[=+\-@\t\r＝＋－＠]/.test(plain) && !number ? `'${plain}` : plain;  // else run by spreadsheets
    return /[",\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  };
  const latex = (text) => [...text.replace(/\s+/g, " ")].map((char) => settings.latex[char] ?? char).join("");
  const words = (cell) =>
    [...cell.childNodes].map((part) => part.textContent.trim()).filter(Boolean).join(" ");

  const FORMS = {
    CSV: (lines) => lines.map((line) => line.map(quoted).join(",")).join("\n") + "\n",
    LaTeX: (lines) => {
      const [head, ...rest] = lines.map((line) => `${line.map(latex).join(" & ")} \\\\`);
      const columns = `l${"r".repeat(lines[0].length - 2)}l`;
      return [`\\begin{tabular}{${columns}}`, "\\toprule", head, "\\midrule", ...rest, "\\bottomrule",
        "\\end{tabular}", ""].join("\n");
    },
  };

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const box = make("textarea", { value: text, className: "unseen" });
      document.body.append(box);
      box.select();
      document.execCommand("copy");
      box.remove();
    }
  }

  function enhance(region) {
    const table = region.querySelector("table");
    const [body] = table.tBodies;
    const heads = [...table.tHead.rows[0].cells];
    const parts = blocks(body);
    const said = make("span", { className: "said", role: "status" });
    const shown = () => parts.flatMap((part) => part.rows.filter((row) => !row.hidden));

    function place(order) {
      for (const part of parts) {
        if (part.heading) body.append(part.heading);
        body.append(...(order ? [...part.rows].sort(order) : part.rows));
      }
    }

    heads.forEach((head, column) => {
      const name = head.textContent || "Row";
      head.replaceChildren(button(name, () => {
        const next = { none: "ascending", ascending: "descending" }[head.getAttribute("aria-sort")] ?? "none";
        for (const other of heads) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", next);
        place(next === "none" ? null : compare(column, next === "ascending" ? 1 : -1));
      }));
      head.setAttribute("aria-sort", "none");
      head.scope = "col";
    });

    const filter = make("input", { type: "search", placeholder: "Filter rows", ariaLabel: "Filter rows",
      on: { input: () => {
        const wanted = filter.value.toLowerCase();
        for (const part of parts) {
          for (const row of part.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
          if (part.heading) part.heading.hidden = part.rows.every((row) => row.hidden);
        }
        said.textContent = `${shown().length} of ${parts.flatMap((part) => part.rows).length} rows`;
      } } });
    const copies = Object.entries(FORMS).map(([form, write]) => button(`Copy ${form}`, async () => {
      const lines = [...body.rows].filter((row) => !row.hidden && !row.classList.contains("group"));
      const texts = lines.map((line) => [...line.cells].map(words));
      await copy(write([heads.map((head) => head.textContent), ...texts]));
      said.textContent = `Copied ${lines.length} rows as ${form}`;
    }));
    region.before(make("div", { className: "tools" }, filter, ...copies, said));
  }

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const tip = make("div", { className: "tip", hidden: true, role: "tooltip" });

  function tell(_, event, __, value) {
    tip.hidden = !value;
    if (!value) return;
    tip.replaceChildren(...Object.entries(value).map(([name, text]) =>
      make("div", {}, make("span", {}, `${name} `), String(text))));
    const [left, top] = [event.clientX + 12, event.clientY + 12];
    tip.style.left = `${Math.max(0, Math.min(left, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.min(top, innerHeight - tip.offsetHeight - 8)}px`;
  }

  /** The colours of the page itself, so that both have one source. */
  function look() {
    const style = getComputedStyle(document.documentElement);
    const [ink, soft, line, paper] = ["ink", "soft", "line", "paper"].map((name) =>
      style.getPropertyValue(`--${name}`).trim());
    const axis = { labelColor: soft, titleColor: ink, domainColor: soft, tickColor: soft, gridColor: line,
      titleFontWeight: "normal", labelFontSize: 11, titleFontSize: 11 };
    return { background: paper, axis, text: { color: ink }, view: { stroke: null },
      font: getComputedStyle(document.body).fontFamily };
  }

  function repainted(spec) {
    if (!dark.matches) return spec;
    let text = JSON.stringify(spec);
    for (const [one, other] of Object.entries(settings.dark)) {
      text = text.replaceAll(`"${one}"`, `"${other}"`);
    }
    return JSON.parse(text);
  }

  async function draw(chart, place, hidden, seeds) {
    const spec = repainted(chart.spec);
    const options = { mode: "vega-lite", ast: true, actions: false, defaultStyle: false, renderer: "canvas",
      tooltip: tell, config: look() };
    const { view } = await window.vegaEmbed(place, spec, options);
    view.signal("hidden", [...hidden]).signal("seeds", seeds.checked).run();
    return view;
  }

  function interactive(chart) {
    const hidden = new Set();
    const place = make("div", { className: "canvas", role: "img", ariaLabel: chart.title });
    const seeds = make("input", { type: "checkbox", on: { change: () => set() } });
    let view = null;
    const set = () => view?.signal("hidden", [...hidden]).signal("seeds", seeds.checked).runAsync();
    const entries = chart.rows.map((row) => {
      const swatch = make("i");
      const entry = button(swatch, () => {
        if (!hidden.delete(row.name)) hidden.add(row.name);
        entry.setAttribute("aria-pressed", !hidden.has(row.name));
        set();
      }, { "aria-pressed": "true" });
      entry.append(row.name);
      return { entry, swatch, colour: row.colour };
    });
    const legend = make("div", { className: "legend", role: "group", ariaLabel: "Rows to show" },
      ...entries.map(({ entry }) => entry),
      ...(chart.toggle ? [make("label", {}, seeds, " every seed")] : []));
    const paint = async () => {
      for (const { swatch, colour } of entries) {
        swatch.style.background = (dark.matches && settings.dark[colour]) || colour;
      }
      view?.finalize();
      view = await draw(chart, place, hidden, seeds);
    };
    const title = make("p", { className: "title" }, chart.title);
    return { element: make("div", { className: "chart" }, title, place, legend), paint };
  }

  async function liven(data) {
    const figure = data.closest("figure");
    const charts = JSON.parse(data.textContent).map(interactive);
    const place = figure.querySelector(".charts");
    place.append(...charts.map(({ element }) => element));
    place.hidden = false;
    for (const { paint } of charts) await paint();
    figure.classList.add("live");
    dark.addEventListener("change", () => charts.forEach(({ paint }) => paint()));
  }

  document.querySelectorAll(".wide").forEach(enhance);
  document.body.append(tip);
  document.querySelectorAll(".chart-data").forEach(liven);
  window.report = { make, button, chooser, fill };
})();
