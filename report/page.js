// SPDX-License-Identifier: Apache-2.0
// Sorts tables by a click on a heading, and shows the rows that hold some words. The page can be read without it.
"use strict";
const value = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
};
// Numbers before text ("-" where there is none), in either direction.
const compare = (a, b) =>
  typeof a === typeof b ? (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true })) : 0;
for (const table of document.querySelectorAll("table.sortable")) {
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
}
const filter = document.getElementById("filter");
if (filter) {
  const rows = [...document.querySelector("#all tbody").rows];
  const show = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    document.getElementById("shown").textContent = `${shown} of ${rows.length} rows`;
  };
  filter.addEventListener("input", show);
  show();
}
