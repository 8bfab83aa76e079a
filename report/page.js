// SPDX-License-Identifier: Apache-2.0
// Sorts tables by a click on a heading, and shows the rows that hold some words or have some value. The page can be read without it.
"use strict";
const value = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
};
// Numbers before text ("-" where there is none), in either direction.
const compare = (a, b) =>
  typeof a === typeof b ? (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true })) : 0;

const sortable = (table) => {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) =>
    head.querySelector("button").addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: value(row, column) }));
      rows.sort((a, b) =>
        typeof a.key === typeof b.key
          ? direction * compare(a.key, b.key)
          : (typeof a.key === "number" ? -1 : 1) * (head.className === "number" ? 1 : direction));
      table.tBodies[0].append(...rows.map(({ row }) => row));
    }));
};

const labelled = (text, control) => {
  const label = document.createElement("label");
  label.append(text, " ", control);
  return label;
};

// Above a long table: words that rows must hold, and a choice for each column that has a few values.
const filterable = (table) => {
  const rows = [...table.tBodies[0].rows];
  const words = Object.assign(document.createElement("input"), { type: "search", autocomplete: "off" });
  const shown = Object.assign(document.createElement("span"), { className: "shown", role: "status" });
  const bar = Object.assign(document.createElement("div"), { className: "filter" });
  const choices = [];
  bar.append(labelled("Rows with", words));
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const values = [...new Set(rows.map((row) => row.cells[column].textContent))];
    if (values.length < 2 || values.length > 24 || values.length > rows.length / 2 || /\d [µm]?s$|%$/.test(values[0])) return;
    if (rows.some((row) => row.cells[column].dataset.value !== undefined && !/^\d+$/.test(row.cells[column].textContent))) return;
    const select = document.createElement("select");
    select.append(new Option("all", ""), ...values.sort((a, b) => a.localeCompare(b, "en", { numeric: true })).map((v) => new Option(v, v)));
    choices.push({ column, select });
    bar.append(labelled(head.querySelector("button").textContent, select));
  });
  const show = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !wanted.every((word) => text.includes(word)) ||
        choices.some(({ column, select }) => select.value && row.cells[column].textContent !== select.value);
      count += !row.hidden;
    }
    shown.textContent = `${count} of ${rows.length} rows`;
  };
  bar.append(shown);
  bar.addEventListener("input", show);
  bar.addEventListener("change", show);
  table.parentNode.before(bar);
  show();
};

for (const table of document.querySelectorAll("table.sortable")) {
  sortable(table);
  if (table.tBodies[0].rows.length > 20) filterable(table);
}

// On paper nothing can be opened.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details.more:not([open])")];
  opened.forEach((each) => { each.open = true; });
});
addEventListener("afterprint", () => opened.forEach((each) => { each.open = false; }));
