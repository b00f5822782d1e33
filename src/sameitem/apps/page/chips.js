/** The categories of a photo: automatic, the likely ones as chips, all others in a list. */

import { currentLanguage, formatPercent, t } from "./i18n.js";

/** @typedef {{id: string, name: string, name_zh?: string, score?: number}} Category */

const chipCount = 4;
const leastScore = 0.01; // below this a category is no longer worth a chip

/**
 * @param {HTMLElement} bar
 * @param {{onChoose: (categoryId: string) => void}} options onChoose: "" is automatic
 */
export function createChips(bar, { onChoose }) {
  function createChip(text, id, { chosen, score }) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "chip";
    button.dataset.category = id;
    button.setAttribute("aria-pressed", id === chosen);
    button.append(text);
    if (score !== undefined) {
      const share = document.createElement("small");
      share.textContent = formatPercent(score);
      button.append(" ", share);
    }
    button.addEventListener("click", () => id !== chosen && onChoose(id));
    return button;
  }

  function createList(others, { chosen, nameOf }) {
    const select = document.createElement("select");
    select.className = "chip";
    select.dataset.category = "other";
    select.setAttribute("aria-label", t("category.label"));
    select.append(new Option(t("category.other"), ""));
    for (const category of others) select.append(new Option(nameOf(category), category.id));
    select.value = others.some((category) => category.id === chosen) ? chosen : "";
    select.classList.toggle("chosen", select.value !== "");
    select.addEventListener("change", () => onChoose(select.value));
    return select;
  }

  return {
    /**
     * @param {{predicted: Category[], all: Category[], chosen: string}} what
     *   predicted: best first, with scores; all: the taxonomy; chosen: "" is automatic
     */
    show({ predicted, all, chosen }) {
      const nameOf = ({ id, name }) => {
        const known = all.find((category) => category.id === id);
        return (currentLanguage() === "zh" && known?.name_zh) || known?.name || name || id;
      };
      const likely = predicted.filter(({ score }) => !(score < leastScore)).slice(0, chipCount);
      const isAutomatic = chosen === "" && likely.length > 0;
      const automatic = isAutomatic ? t("category.autoIs", { name: nameOf(likely[0]) }) : t("category.auto");
      const chips = [createChip(automatic, "", { chosen })];
      for (const category of likely)
        chips.push(createChip(nameOf(category), category.id, { chosen, score: category.score }));
      const listed = new Set(["", ...likely.map((category) => category.id)]);
      const others = all.filter((category) => !listed.has(category.id));
      if (!listed.has(chosen) && !others.some((category) => category.id === chosen))
        others.push({ id: chosen, name: chosen });
      if (others.length) chips.push(createList(others, { chosen, nameOf }));
      const focused = bar.contains(document.activeElement) ? document.activeElement.dataset.category : undefined;
      bar.replaceChildren(...chips);
      if (focused !== undefined) chips.find((chip) => chip.dataset.category === focused)?.focus();
    },
  };
}
