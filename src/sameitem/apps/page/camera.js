/** Taking a photo: the phone's own camera app where there is one, else a live picture in a dialog. */

/**
 * Ask for a photo of the camera.
 * @param {{dialog: HTMLDialogElement, input: HTMLInputElement}} elements input: a file input with `capture`
 * @returns {Promise<File | null>} null when the user closed the dialog, or when the input takes over and reports itself
 */
export async function takePhoto({ dialog, input }) {
  if (matchMedia("(pointer: coarse)").matches || !navigator.mediaDevices?.getUserMedia) {
    input.click();
    return null;
  }
  const video = dialog.querySelector("video");
  const shutter = dialog.querySelector("[data-shutter]");
  const trouble = dialog.querySelector("[data-trouble]");
  trouble.hidden = true;
  shutter.disabled = true;
  const closed = new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  dialog.returnValue = "";
  dialog.showModal();

  let stream = null;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment", width: { ideal: 1920 } },
    });
    if (dialog.open) {
      video.srcObject = stream;
      await video.play();
      shutter.disabled = false;
      shutter.focus();
    }
  } catch {
    trouble.hidden = false; // refused, no camera, or in use: the dialog says so and offers a file instead
  }
  const photo = new Promise((resolve) => {
    shutter.onclick = async () => {
      resolve(await grab(video));
      dialog.close();
    };
  });
  try {
    return await Promise.race([photo, closed.then(() => null)]);
  } finally {
    shutter.onclick = null;
    video.srcObject = null;
    stream?.getTracks().forEach((track) => track.stop());
  }
}

function grab(video) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((resolve) => {
    canvas.toBlob((blob) => resolve(blob && new File([blob], "camera.jpg", { type: blob.type })), "image/jpeg", 0.95);
  });
}
