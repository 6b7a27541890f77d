// Where pictures come from: files, dropped and pasted ones, the camera.

import { byId } from "./elements.js";

export function gather(take) {
  const images = (files) => {
    const found = [...files].filter((file) => file.type.startsWith("image/"));
    if (found.length) take(found);
    return found.length;
  };
  for (const [button, input] of [["choose", "files"], ["camera", "shot"]]) {
    byId(input).addEventListener("change", (event) => {
      images(event.target.files);
      event.target.value = "";
    });
    if (button === "choose") byId(button).addEventListener("click", () => byId(input).click());
  }
  document.addEventListener("paste", (event) => {
    if (images(event.clipboardData.files)) event.preventDefault();
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      byId("drop").classList.toggle("over", kind === "dragover");
      if (kind === "drop") images(event.dataTransfer.files);
    });
  }
  byId("camera").addEventListener("click", () => openCamera(take));
}

async function openCamera(take) {
  // A page that is not local and not encrypted gets no camera; a phone's own takes one.
  if (!navigator.mediaDevices?.getUserMedia) return byId("shot").click();
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment" },
    });
  } catch {
    return byId("shot").click();
  }
  const dialog = byId("camera-dialog");
  const video = byId("video");
  let n = 0;
  const snap = () => {
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    const name = `camera ${new Date().toISOString().slice(11, 19)} ${++n}.png`;
    canvas.toBlob((blob) => blob && take([new File([blob], name, { type: "image/png" })]));
  };
  const close = () => dialog.close();
  video.srcObject = stream;
  byId("snap").addEventListener("click", snap);
  byId("camera-close").addEventListener("click", close);
  dialog.addEventListener("close", () => {
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
    byId("snap").removeEventListener("click", snap);
    byId("camera-close").removeEventListener("click", close);
  }, { once: true });
  dialog.showModal();
}
