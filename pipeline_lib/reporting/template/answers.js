"use strict";
// The answers to every question, to search in and to hold side by side. Every text goes in as textContent.
(() => {
  const { make, button, chooser, fill } = window.report;

  /** Marks the words of `text` that a longest common subsequence of words with `other` leaves out. */
  function marked(text, other, tag) {
    const [a, b] = [text, other].map((one) => one.split(/(\s+)/));
    const common = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
    for (let i = a.length - 1; i >= 0; i--) {
      for (let j = b.length - 1; j >= 0; j--) {
        const best = Math.max(common[i + 1][j], common[i][j + 1]);
        common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : best;
      }
    }
    const parts = [];
    for (let i = 0, j = 0; i < a.length;) {
      if (j < b.length && a[i] === b[j]) { parts.push(a[i]); i++; j++; }
      else if (j < b.length && common[i][j + 1] > common[i + 1][j]) j++;
      else { parts.push(a[i].trim() ? make(tag, {}, a[i]) : a[i]); i++; }
    }
    return parts;
  }

  function answer(title, said, words) {
    if (!said) return make("div", {}, make("h5", {}, title), "(not asked)");
    const [, p, gap] = said;
    const bar = make("meter", { min: 0, max: 1, value: p, ariaLabel: `${title}: p of the true answer` });
    const more = gap === null ? "" : `, gap ${gap.toFixed(2).replace("-", "\u2212")}`;
    return make("div", {}, make("h5", {}, title), make("bdi", {}, ...words),
      make("p", { className: "likelihood" }, bar, ` ${p.toFixed(3)}${more}`));
  }

  function browse(section) {
    const { studies } = JSON.parse(document.getElementById("answer-data").textContent);
    if (!studies.length) return;
    const PAGE = 10;
    let limit = PAGE;
    const list = make("div", { className: "answers" });
    const said = make("p", { className: "said", role: "status" });
    const again = () => { limit = PAGE; show(); };
    const search = make("input", { type: "search", placeholder: "Search questions and answers",
      ariaLabel: "Search questions and answers", on: { input: again } });
    const study = chooser("Task", () => rows(), studies.map((one) => one.name));
    const row = chooser("Row", () => stages());
    const [split, stage] = [chooser("Split", again), chooser("Stage", again)];
    const order = chooser("Order", again, ["as in the data", "largest gap first"]);
    const more = button("Show more", () => { limit += PAGE; show(); });
    const now = () => studies[study.select.value];
    const chosen = () => now().rows[row.select.value];

    function rows() {
      fill(row.select, now().rows.map((one) => one.name));
      fill(split.select, ["all", ...now().splits]);
      stages();
    }

    function stages() {
      const names = chosen().stages.map(([name]) => name);
      fill(stage.select, names);
      stage.label.hidden = !names.length;
      again();
    }

    function item(question) {
      const { before, after, stages: later } = chosen();
      const [first, own] = [question.said[before], question.said[after]];
      const [name, column] = later[stage.select.value] ?? [];
      const texts = (one, tag, other) => (one && other ? marked(one[0], other[0], tag) : [one?.[0] ?? ""]);
      const shown = [answer("before (original)", first, texts(first, "del", own))];
      if (after !== before) shown.push(answer("after", own, texts(own, "ins", first)));
      const last = question.said[column];
      if (name) shown.push(answer(`after, then ${name}`, last, texts(last, "ins", first)));
      const asked = make("bdi", {}, question.prompt);
      const split = make("span", { className: "split" }, question.split);
      return make("article", {}, make("p", {}, split, " ", asked),
        make("p", { className: "truth" }, "true answer: ", make("bdi", {}, question.truth)),
        make("div", { className: "beside" }, ...shown));
    }

    function show() {
      const wanted = search.value.toLowerCase();
      const part = split.select.selectedIndex > 0 ? now().splits[split.select.selectedIndex - 1] : null;
      const { before, after, stages: later } = chosen();
      const places = [before, after, later[stage.select.value]?.[1]].filter((one) => one !== undefined);
      const found = now().questions.filter((question) => (!part || question.split === part)
        && [question.prompt, question.truth, ...places.map((one) => question.said[one]?.[0] ?? "")]
          .some((text) => text.toLowerCase().includes(wanted)));
      const gap = (question) => Math.abs(question.said[after]?.[2] ?? 0);
      if (order.select.value === "1") found.sort((one, other) => gap(other) - gap(one));
      list.replaceChildren(...found.slice(0, limit).map(item));
      more.hidden = found.length <= limit;
      const left = now().left_out ? ` ${now().left_out} with smaller gaps are left out of this page.` : "";
      const all = now().questions.length;
      said.textContent = `${found.length} of ${all} questions, seed ${chosen().seed}.${left}`;
    }

    study.label.hidden = studies.length < 2;
    const choosers = [study, row, stage, split, order].map(({ label }) => label);
    section.append(make("div", { className: "tools" }, search, ...choosers), said, list, more);
    section.hidden = false;
    for (const link of document.querySelectorAll(".live-only")) link.hidden = false;
    rows();
  }

  browse(document.getElementById("every-answer"));
})();
