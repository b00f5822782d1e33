/** The form of price, brand, stock and free expression, and the button that opens it. */

import { t } from "./i18n.js";
import { amount, countFilters } from "./state.js";

/** @typedef {import("./state.js").Filters} Filters */

const $ = (id) => document.getElementById(id);
const textFields = ["minPrice", "maxPrice", "brand", "expression"];

/** @param {{onChange: (filters: Filters) => void}} options onChange: the user has changed or sent a field */
export function createFilterForm({ onChange }) {
  const form = $("filters");
  const opener = $("filters-open");
  const fields = form.elements;

  const read = () => ({
    minPrice: amount(fields.minPrice.value),
    maxPrice: amount(fields.maxPrice.value),
    brand: fields.brand.value.trim(),
    inStock: fields.inStock.checked,
    expression: fields.expression.value.trim(),
  });

  function open(isOpen) {
    form.hidden = !isOpen;
    opener.setAttribute("aria-expanded", isOpen);
  }

  function close() {
    open(false);
    opener.focus();
  }

  opener.addEventListener("click", () => open(form.hidden));
  form.addEventListener("change", () => onChange(read()));
  form.addEventListener("reset", () => setTimeout(() => onChange(read()))); // the fields are empty only after the event
  form.addEventListener("keydown", (event) => event.key === "Escape" && close());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    close();
    onChange(read());
  });

  return {
    /**
     * Show what is set; the field the user is in is left alone.
     * @param {Filters} filters @param {Iterable<string>} brands to be suggested
     */
    show(filters, brands) {
      $("filters-label").textContent = t("filters.open", { count: countFilters(filters) });
      for (const name of textFields) {
        if (document.activeElement !== fields[name]) fields[name].value = filters[name];
      }
      fields.inStock.checked = filters.inStock;
      fields.expression.removeAttribute("aria-invalid");
      $("expression-error").hidden = true;
      $("brands").replaceChildren(
        ...Array.from(new Set(brands))
          .sort()
          .map((brand) => new Option(brand, brand)),
      );
    },
    /** Open the form and say what is wrong with the expression. @param {string} reason */
    showError(reason) {
      open(true);
      fields.expression.setAttribute("aria-invalid", "true");
      $("expression-error").textContent = reason;
      $("expression-error").hidden = false;
    },
  };
}
