// Sets the chosen theme before the first paint. A plain script, because modules run too late.
"use strict";
(function () {
  var chosen = null;
  try {
    chosen = localStorage.getItem("diptych-theme");
  } catch (error) {
    console.info("the theme is not remembered: storage is closed to this page", error);
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
