"use strict";
// The page reads without this script; it adds a theme switch, sorting, filtering, and opens what a link points into.
(function () {
  var root = document.documentElement;
  var theme = document.querySelector(".theme");
  function isDark() {
    return (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  }
  function label() { theme.textContent = isDark() ? "Light" : "Dark"; }
  theme.hidden = false;
  label();
  theme.addEventListener("click", function () {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
  });

  document.querySelectorAll("button.copy").forEach(function (button) {
    if (!navigator.clipboard) { return; }
    button.hidden = false;
    button.addEventListener("click", function () {
      navigator.clipboard.writeText(button.previousElementSibling.textContent).then(function () {
        button.textContent = "Copied";
        setTimeout(function () { button.textContent = "Copy"; }, 1500);
      });
    });
  });

  function reveal() {
    var target = document.getElementById(location.hash.slice(1));
    if (!target) { return; }
    for (var up = target.parentElement; up; up = up.parentElement) {
      if (up.tagName === "DETAILS") { up.open = true; }
    }
    var own = target.querySelector("details");
    if (own && target.classList.contains("place")) { own.open = true; }
    target.scrollIntoView();
  }
  addEventListener("hashchange", reveal);
  if (location.hash) { reveal(); }

  // What the style sheet opens on paper, for browsers that cannot style the content of closed details.
  var opened = [];
  addEventListener("beforeprint", function () {
    opened = document.querySelectorAll(".rule:not(.faded) > .places > .place:first-child > details:not([open]), .rest:not([open]), .aside:not(.metrics):not([open])");
    opened.forEach(function (details) { details.open = true; });
  });
  addEventListener("afterprint", function () {
    opened.forEach(function (details) { details.open = false; });
  });

  document.querySelectorAll("table").forEach(function (table) {
    var body = table.tBodies[0];
    var heads = table.querySelectorAll("th[data-key]");
    heads.forEach(function (head, column) {
      // No <button>: browsers leave those out where they repeat the head of a table on paper.
      var button = document.createElement("span");
      button.setAttribute("role", "button");
      button.tabIndex = 0;
      button.textContent = head.textContent;
      head.textContent = "";
      head.appendChild(button);
      button.addEventListener("keydown", function (event) {
        if (event.key !== "Enter" && event.key !== " ") { return; }
        event.preventDefault();
        button.click();
      });
      button.addEventListener("click", function () {
        var down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        var numeric = head.classList.contains("num");
        function key(row) {
          var cell = row.cells[column];
          if (!numeric) { return cell.textContent; }
          return parseFloat(cell.dataset.v !== undefined ? cell.dataset.v.replace("inf", "Infinity") : cell.textContent);
        }
        Array.from(body.rows).map(function (row) { return [key(row), row]; }).sort(function (a, b) {
          if (numeric) {
            // Rows without a figure stay last in either direction.
            if (isNaN(a[0]) || isNaN(b[0])) { return isNaN(a[0]) - isNaN(b[0]); }
            if (a[0] === b[0]) { return 0; }
            return (a[0] < b[0] ? -1 : 1) * (down ? -1 : 1);
          }
          return a[0].localeCompare(b[0], undefined, { numeric: true }) * (down ? -1 : 1);
        }).forEach(function (pair) { body.appendChild(pair[1]); });
      });
    });

    var tools = table.closest("section").querySelector(".tools");
    if (!tools) { return; }
    var status = tools.querySelector("[role=status]");
    tools.hidden = false;
    tools.querySelector("input").addEventListener("input", function (event) {
      var wanted = event.target.value.toLowerCase();
      var shown = 0;
      Array.from(body.rows).forEach(function (row) {
        var text = (row.cells[1].title + " " + row.cells[2].textContent).toLowerCase();
        row.hidden = text.indexOf(wanted) < 0;
        shown += row.hidden ? 0 : 1;
      });
      status.textContent = wanted ? shown + " of " + body.rows.length + " rows" : "";
    });
  });
})();
