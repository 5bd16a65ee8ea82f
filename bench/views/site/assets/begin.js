// SPDX-License-Identifier: Apache-2.0
// Before anything is drawn: the table's thousands of rows wait for the script that shows some of them. Where that
// script does not come or fails, they are shown as they are without one.
(function () {
  "use strict";
  const page = document.documentElement;
  page.classList.add("waiting");
  addEventListener("error", () => page.classList.remove("waiting"), true);
})();
