
"use strict";
// The tables are complete without this: it adds sorting and filtering.
for (const section of document.querySelectorAll(".sortable")) {
  const table = section.querySelector("table");
  if (!table) continue;
  const body = table.tBodies[0];
  const number = (text) => {
    const found = parseFloat(text.replace(/,/g, ""));
    return Number.isNaN(found) ? null : found;
  };
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const numeric = head.classList.contains("number");
      const keyed = [...body.rows].map((row) => {
        const text = row.cells[place].textContent;
        return [numeric ? number(text) : text.toLowerCase() || null, row];
      });
      keyed.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null); // what has no figure is last either way
        const order = a < b ? -1 : a > b ? 1 : 0;
        return down ? -order : order;
      });
      body.append(...keyed.map(([, row]) => row));
    });
  });
  if (!section.dataset.filter || body.rows.length < 2) continue;
  const box = document.createElement("div");
  box.className = "filter";
  const input = document.createElement("input");
  input.type = "search";
  input.placeholder = section.dataset.filter;
  input.setAttribute("aria-label", section.dataset.filter);
  const shown = document.createElement("output");
  box.append(input, shown);
  section.querySelector(".scroll").before(box);
  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      count += !row.hidden;
    }
    shown.textContent = `${count} of ${body.rows.length} rows`;
  };
  input.addEventListener("input", filter);
  filter();
}
