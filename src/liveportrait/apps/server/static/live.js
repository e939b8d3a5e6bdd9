// The live page: the camera's frames go to the server, the portrait's come back.

import { Figures } from "./figures.js";
import { Recorder } from "./recorder.js";
import { LiveStream } from "./stream.js";

const LONGEST_SIDE = 640; // px of the frames that are sent: the networks look at 256
const JPEG_QUALITY = 0.85;
const LONGEST_PAUSE = 10_000; // ms between attempts to connect again
const CONTROLS = ["region", "multiplier", "smooth"];
const READING = 5000; // ms for which a message stays
const SILENT = 1008, FULL = 1013, LEFT = 1000;

const LOOK_STRAIGHT = "Look straight at the camera: motion starts from there.";

const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((each) => [each.id, each]));
const sent = new OffscreenCanvas(1, 1);
const pen = sent.getContext("2d", { alpha: false });
const brush = page.portrait.getContext("2d", { alpha: false });
const figures = new Figures(page);
const recorder = new Recorder(page.portrait, page.saved);
const photos = new Map(); // name → file, of the visitor's own portraits
const theme = new URLSearchParams(location.search).get("theme");
if (theme) document.documentElement.dataset.theme = theme;

let stream = null;
let camera = null; // MediaStream
let chosen = null; // name of the portrait that is wanted
let moving = null; // name of the one that moves
let known = new Set(); // names that this connection can be asked for
let options = {}; // those that the page has no control for, and where its controls begin
let isEncoding = false;
let interval = 33; // ms between the camera's frames
let before = 0; // when the last one came
let pause = 1000; // ms before the next attempt to connect
let readUntil = 0; // when a message that has to be read may give way

function tell(sentence, isWarning = false, toBeRead = isWarning) {
  readUntil = toBeRead ? performance.now() + READING : 0;
  if (page.message.textContent !== sentence) page.message.textContent = sentence;
  page.message.classList.toggle("warning", isWarning);
}

// The camera

const CAMERA_ERRORS = {
  NotAllowedError: "The browser may not use the camera: allow it beside the address, then start again.",
  NotFoundError: "There is no camera: plug one in, then start again.",
  NotReadableError: "The camera does not answer: close other programs that use it, then start again.",
};

async function startCamera() {
  if (!navigator.mediaDevices) {
    return tell("Browsers give the camera to https pages and to this computer's own alone: use one of these.", true);
  }
  tell("Waiting for the camera…");
  try {
    camera = await navigator.mediaDevices.getUserMedia({
      video: { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 }, facingMode: "user" },
    });
  } catch (error) {
    return tell(CAMERA_ERRORS[error.name] ?? `The camera cannot be used: ${error.message}`, true);
  }
  camera.getVideoTracks()[0].onended = () => {
    stopCamera();
    tell("The camera has gone: plug it in, then start again.", true);
  };
  page.camera.srcObject = camera;
  page.start.textContent = "Stop the camera";
  page.start.classList.remove("first");
  connect();
  page.camera.requestVideoFrameCallback(onFrame);
}

function stopCamera() {
  camera?.getTracks().forEach((track) => track.stop());
  camera = page.camera.srcObject = null;
  stream?.close();
  recorder.stop();
  page.start.textContent = "Start the camera";
  page.start.classList.add("first");
  show();
}

function onFrame(now, { captureTime, width, height }) {
  if (!camera) return;
  page.camera.requestVideoFrameCallback(onFrame);
  if (before) interval += 0.1 * (Math.min(now - before, 100) - interval);
  before = now;
  if (isEncoding || !stream?.isDue(now, interval)) return;
  const ratio = Math.min(1, LONGEST_SIDE / Math.max(width, height));
  sent.width = Math.round(width * ratio);
  sent.height = Math.round(height * ratio);
  if (page.mirror.checked) pen.setTransform(-1, 0, 0, 1, sent.width, 0);
  pen.drawImage(page.camera, 0, 0, sent.width, sent.height);
  isEncoding = true;
  sent.convertToBlob({ type: "image/jpeg", quality: JPEG_QUALITY }).then((blob) => {
    isEncoding = false;
    if (stream?.isOpen) stream.send(blob, Math.min(captureTime ?? now, now));
  });
}

// The stream

const address = (path) => new URL(`v1/live/${path}`, location.href);

// Ask the server, with the token that it wants where it wants one.
async function ask(path) {
  for (;;) {
    const token = sessionStorage.getItem("token");
    const answer = await fetch(address(path), { headers: token ? { Authorization: `Bearer ${token}` } : {} });
    if (answer.ok) return answer;
    const { detail } = await answer.json();
    const given = answer.status === 401 && prompt("The token of this service:");
    if (!given) throw new Error(detail);
    sessionStorage.setItem("token", given);
  }
}

function connect() {
  const url = address("stream");
  url.protocol = url.protocol.replace("http", "ws");
  known = new Set();
  const token = sessionStorage.getItem("token");
  const mine = (stream = new LiveStream(url, token, { opened: onOpened, picture: onPicture, told: onTold, ended }));
  function ended(code, reason) {
    if (stream !== mine) return;
    stream = null;
    show();
    if (!camera || code === LEFT) return;
    if (code === FULL) return stopCamera(), tell(sentence(reason), true);
    tell(code === SILENT ? "Paused." : `${sentence(reason || "The connection was lost")} Trying again…`, true);
    setTimeout(() => camera && !stream && !document.hidden && connect(), pause);
    pause = Math.min(2 * pause, LONGEST_PAUSE);
  }
}

function onOpened() {
  if (chosen) choose(chosen);
  tell(LOOK_STRAIGHT);
  show();
}

function onTold({ portraits, portrait, options: begun, error }) {
  if (portraits) {
    known = new Set(portraits);
    options = begun;
    if (page.options.dataset.changed) sendOptions();
    else for (const name of CONTROLS) if (name in options) page.options.elements[name].value = options[name];
  }
  if (error) {
    tell(sentence(error), true);
    if (photos.delete(portrait)) page.portraits.querySelector(`[data-name="${CSS.escape(portrait)}"]`).remove();
    if (portrait === chosen && moving) mark(moving);
  } else if (portrait) {
    known.add((moving = portrait));
    tell(LOOK_STRAIGHT);
  }
}

async function onPicture(blob, reply) {
  const bitmap = await createImageBitmap(blob);
  draw(bitmap);
  bitmap.close();
  if (stream) stream.seen = Math.max(stream.seen, reply.reply);
  pause = 1000;
  requestAnimationFrame(() => figures.count(reply, performance.now()));
  page.portrait.closest(".pictures").classList.toggle("lost", !reply.face);
  if (performance.now() < readUntil) return;
  if (!reply.started) tell(LOOK_STRAIGHT);
  else if (!reply.face) tell("No face in sight: the portrait waits.", true, false);
  else tell("The portrait follows.");
}

// Fill the canvas; a film that is being recorded keeps its size, and other portraits are fitted into it.
function draw(picture) {
  const canvas = page.portrait;
  if (!recorder.isRecording && (canvas.width !== picture.width || canvas.height !== picture.height)) {
    canvas.width = picture.width;
    canvas.height = picture.height;
  }
  const ratio = Math.min(canvas.width / picture.width, canvas.height / picture.height);
  const [width, height] = [picture.width * ratio, picture.height * ratio];
  if (width < canvas.width || height < canvas.height) brush.fillRect(0, 0, canvas.width, canvas.height);
  brush.drawImage(picture, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
}

// Portraits and options

async function listPortraits() {
  try {
    const names = await (await ask("portraits")).json();
    if (!names.length) tell("Choose a photo of your own, then start the camera.");
    for (const name of names) {
      const picture = await (await ask(`portraits/${encodeURIComponent(name)}`)).blob();
      addPortrait(name, URL.createObjectURL(picture));
      if (!chosen) choose(name);
    }
  } catch (error) {
    tell(sentence(error.message), true);
  }
}

function addPortrait(name, picture) {
  const old = [...page.portraits.children].find((each) => each.dataset.name === name);
  const button = document.createElement("button");
  const image = button.appendChild(document.createElement("img"));
  image.src = picture;
  image.alt = "";
  button.appendChild(document.createElement("span")).textContent = name;
  button.dataset.name = button.title = name;
  button.onclick = () => choose(name);
  if (old) old.replaceWith(button);
  else page.portraits.insertBefore(button, page.photo.parentElement);
  image.decode().then(() => !stream && chosen === name && draw(image), () => {});
  return button;
}

function mark(name) {
  chosen = name;
  for (const button of page.portraits.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", button.dataset.name === name);
    const image = button.querySelector("img");
    if (!stream && button.dataset.name === name && image.naturalWidth) draw(image);
  }
}

function choose(name) {
  mark(name);
  if (!stream?.isOpen) return;
  if (photos.has(name) && !known.has(name)) {
    tell("Opening the photo…", false, true);
    stream.sendPhoto(photos.get(name));
  } else stream.command({ portrait: name });
}

function sendOptions() {
  page.options.dataset.changed = true;
  const { region, multiplier, smooth } = page.options.elements;
  const chosen = { region: region.value, multiplier: +multiplier.value, smooth: +smooth.value };
  stream?.command({ options: { ...options, ...chosen } });
}

// The page

function show() {
  page.reset.disabled = !stream?.isOpen;
  page.record.disabled = !stream?.isOpen && !recorder.isRecording;
  page.record.setAttribute("aria-pressed", recorder.isRecording);
  page.record.textContent = recorder.isRecording ? "Stop recording" : "Record";
}

// What the server says, as a sentence of the page; it may begin with the name of a file, which stays as it is.
function sentence(text) {
  const begin = /^[a-z]+ /.test(text) ? text[0].toUpperCase() : text[0];
  return `${begin}${text.slice(1)}${/[.!?…]$/.test(text) ? "" : "."}`;
}

page.start.onclick = () => (camera ? (stopCamera(), tell("Stopped.")) : startCamera());
page.reset.onclick = () => stream?.command({ reset: true });
page.record.onclick = () => {
  if (recorder.isRecording) recorder.stop();
  else recorder.start();
  show();
};
page.options.onsubmit = (event) => event.preventDefault();
page.options.onchange = ({ target }) => {
  if (target !== page.mirror) return sendOptions();
  page.camera.classList.toggle("mirrored", page.mirror.checked);
  stream?.command({ reset: true });
};
page.photo.onchange = () => {
  const [file] = page.photo.files;
  page.photo.value = "";
  if (!file) return;
  photos.set(file.name, file);
  known.delete(file.name);
  addPortrait(file.name, URL.createObjectURL(file));
  choose(file.name);
};
document.onkeydown = ({ key, target, ctrlKey, metaKey, altKey }) => {
  if (ctrlKey || metaKey || altKey || target.matches("select, input:not([type=checkbox])")) return;
  if (key === "r") page.reset.click();
  else if (key === "v") page.record.click();
  else if (key >= "1" && key <= "9") page.portraits.querySelectorAll("button")[key - 1]?.click();
};
document.onvisibilitychange = () => {
  if (!document.hidden && camera && !stream) connect();
};
window.onpagehide = () => camera && stopCamera();

page.camera.classList.toggle("mirrored", page.mirror.checked);
tell("Choose a portrait and start the camera; its pictures go to this page's own server alone.");
show();
listPortraits();
