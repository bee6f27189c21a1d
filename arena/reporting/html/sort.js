"use strict";
// Tables of class "sortable": each header becomes a button that sorts by its column, then the other way round.
// A cell's data-sort, or else its text, decides; cells that say nothing stay last.

for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const first = header.classList.contains("num") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = header.getAttribute("aria-sort") === first ? other : first;
      for (const sorted of table.querySelectorAll("th[aria-sort]")) sorted.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", order);
      sortRows(table.tBodies[0], column, order === "ascending" ? 1 : -1);
    });
  });
}

function sortRows(body, column, direction) {
  const keyed = [...body.rows].map((row) => {
    const cell = row.cells[column];
    return { row, key: cell.dataset.sort ?? cell.textContent.trim() };
  });
  const numeric = keyed.every(({ key }) => key === "" || !Number.isNaN(Number(key)));
  const compare = numeric ? (a, b) => Math.sign(Number(a) - Number(b)) || 0 : (a, b) => a.localeCompare(b);
  keyed.sort((a, b) => (a.key === "") - (b.key === "") || direction * compare(a.key, b.key));
  body.append(...keyed.map(({ row }) => row));
}
