/** The ways a photo comes in: choosing, taking, dropping and pasting it. */

import { takePhoto } from "./camera.js";
import { t } from "./i18n.js";
import { toast } from "./notices.js";
import { pickFile } from "./photo.js";

const $ = (id) => document.getElementById(id);

/** Open the dialog for choosing a file. */
export const chooseFile = () => $("file").click();

/**
 * Listen for photos wherever the page takes them.
 * @param {(file: File, more: {others: boolean}) => void} onFile others: more files came with it and are left out
 */
export function listenForPhotos(onFile) {
  const use = (file, others = false) => {
    if ($("camera").open) $("camera").close();
    if (file) onFile(file, { others });
  };
  const useTransfer = (transfer) => {
    const file = pickFile(transfer);
    if (!file) return toast(t("take.nothing"));
    use(file, transfer.files.length > 1);
  };

  for (const button of document.querySelectorAll("[data-take]")) {
    button.addEventListener("click", async () => {
      if (button.dataset.take === "file") chooseFile();
      else use(await takePhoto({ dialog: $("camera"), input: $("capture") }));
    });
  }
  for (const input of [$("file"), $("capture")]) {
    input.addEventListener("change", () => {
      use(input.files[0]);
      input.value = ""; // the same file may be chosen again
    });
  }

  let depth = 0; // dragenter and dragleave also come from every element inside the page
  const veil = (next) => {
    depth = Math.max(0, next);
    $("drop-veil").hidden = depth === 0;
  };
  const mayHoldPicture = ({ dataTransfer }) =>
    Boolean(dataTransfer) && ["Files", "text/uri-list"].some((type) => dataTransfer.types.includes(type));
  document.addEventListener("dragenter", (event) => mayHoldPicture(event) && veil(depth + 1));
  document.addEventListener("dragleave", (event) => mayHoldPicture(event) && veil(depth - 1));
  document.addEventListener("dragover", (event) => mayHoldPicture(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!mayHoldPicture(event)) return;
    event.preventDefault();
    veil(0);
    useTransfer(event.dataTransfer);
  });
  document.addEventListener("paste", (event) => {
    const isTyping = event.target instanceof HTMLInputElement;
    if (isTyping && !event.clipboardData?.files.length) return;
    event.preventDefault();
    useTransfer(event.clipboardData);
  });
}
