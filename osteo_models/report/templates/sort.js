"use strict";
// A click on a column's title sorts by it; rows under a common title move together; empty cells stay last.
(() => {
  const cellOf = (unit, column) => (unit.rows ? unit.rows[column ? 1 : 0] : unit).cells[column];
  const keyOf = (unit, column) => cellOf(unit, column)?.dataset.key;
  const compare = (one, other) => one !== "" && other !== "" && !isNaN(one) && !isNaN(other)
    ? one - other : one.localeCompare(other, "en", { numeric: true });
  const sort = (table, column, sign) => {
    const units = table.tBodies.length > 1 ? [...table.tBodies] : [...table.tBodies[0].rows];
    const keyed = units.map((unit) => [keyOf(unit, column), unit]);
    keyed.sort(([one], [other]) => one === undefined || other === undefined
      ? (one === undefined) - (other === undefined) : sign * compare(one, other));
    for (const [, unit] of keyed) unit.parentNode.append(unit);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        sort(table, column, down ? -1 : 1);
      });
    });
  }
})();
// Paper shows everything: what is folded is opened for printing.
addEventListener("beforeprint", () => { for (const one of document.querySelectorAll("details")) one.open = true; });
