"use strict";
const pages = [...document.querySelectorAll(".page")];

function showPage(moved) {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const current = location.hash ? document.querySelector(".page.shown") : null;
  const page = target?.closest(".page") ?? current ?? pages[0];
  for (const one of pages) one.classList.toggle("shown", one === page);
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${page.id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.querySelector("nav [aria-current]").scrollIntoView({ block: "nearest", inline: "center" });
  if (!moved && !target) return;
  for (let inside = target; inside; inside = inside.parentElement) if (inside.tagName === "DETAILS") inside.open = true;
  if (target && target !== page) target.scrollIntoView();
  else scrollTo(0, 0);
  if (moved) (target === page ? page.querySelector("h2") : target)?.focus({ preventScroll: true });
}
addEventListener("hashchange", () => showPage(true));
showPage(false);

function sortRows(head) {
  const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const order = (a, b) => (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b) * (up ? 1 : -1);
  // what is not known comes last, whichever way
  const rows = [...body.rows].map((row) => [key(row), row]);
  rows.sort(([a], [b]) => (a === "") - (b === "") || order(a, b));
  body.append(...rows.map(([, row]) => row));
}

for (const box of document.querySelectorAll(".table")) {
  const rows = [...box.querySelector("tbody").rows], told = box.querySelector("output");
  for (const head of box.querySelectorAll("th")) head.firstChild.addEventListener("click", () => sortRows(head));
  box.querySelector("input").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(" ");
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    const n = rows.filter((row) => !row.hidden).length;
    told.textContent = n === rows.length ? `${n} rows` : `${n} of ${rows.length} rows`;
  });
}

document.getElementById("filter")?.addEventListener("input", (event) => {
  for (const item of document.querySelectorAll("details[data-name]"))
    item.hidden = !item.dataset.name.toLowerCase().includes(event.target.value.toLowerCase());
});

for (const button of document.querySelectorAll(".enlarge")) button.addEventListener("click", () => {
  const large = button.closest("figure").classList.toggle("large");
  button.setAttribute("aria-pressed", large);
});

addEventListener("beforeprint", () => {
  for (const item of document.querySelectorAll("details")) item.open = true;
});
