"use strict";
// Tables sort by a column's values: numbers as numbers, text in the reader's locale, missing values always last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  heads.forEach((head, place) => {
    head.querySelector("button").addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      const value = (row) => row.cells[place].dataset.value;
      const rows = [...body.rows];
      const numeric = rows.every((row) => value(row) === undefined || row.cells[place].classList.contains("number"));
      const compare = (a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b));
      rows.sort((first, second) => {
        const a = value(first), b = value(second);
        if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
        return descending ? compare(b, a) : compare(a, b);
      });
      body.append(...rows);
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    });
  });
}
// A table wider than its container becomes a list of its rows; in print, all parts are open and tables stay tables.
const boxes = [...document.querySelectorAll(".scroll")];
for (const box of boxes) {
  const [groups, heads] = box.querySelectorAll("tr.groups").length ? box.querySelectorAll("thead tr") : [null, box.querySelector("thead tr")];
  const above = groups ? [...groups.cells].flatMap((cell) => Array(cell.colSpan).fill(cell.textContent.trim())) : [];
  const names = [...heads.cells].map((cell, place) => `${above[place] || ""} ${cell.textContent.trim()}`.trim());
  for (const row of box.querySelectorAll("tbody tr")) {
    [...row.cells].forEach((cell, place) => { cell.dataset.head = names[place]; });
  }
}
function fit() {
  for (const box of boxes) {
    box.classList.remove("stacked");
    box.classList.toggle("stacked", box.scrollWidth > box.clientWidth + 1);
  }
}
const folded = [...document.querySelectorAll("details")];
let closed = [];
addEventListener("resize", fit);
document.addEventListener("toggle", fit, true);
addEventListener("beforeprint", () => {
  closed = folded.filter((part) => !part.open);
  closed.forEach((part) => { part.open = true; });
  boxes.forEach((box) => box.classList.remove("stacked"));
});
addEventListener("afterprint", () => {
  closed.forEach((part) => { part.open = false; });
  fit();
});
fit();
// Charts: `ast` interprets their expressions instead of compiling them, which the page's security policy forbids.
for (const place of document.querySelectorAll(".chart")) {
  const text = document.getElementById(place.dataset.specification).textContent;
  vegaEmbed(place, JSON.parse(text), {
    actions: false, ast: true, defaultStyle: false, mode: "vega-lite", renderer: "svg",
    tooltip: { disableDefaultStyle: true },
  }).catch((error) => {
    place.textContent = `This chart could not be drawn: ${error.message}`;
    console.error(error);
  });
}
