// The live page: sends the camera's frames or the microphone's sound, and shows the pictures that come back.

import { Camera } from "./camera.js";
import { Figures } from "./figures.js";
import { Microphone } from "./microphone.js";
import { Recorder } from "./recorder.js";
import { LiveStream } from "./stream.js";

const MAX_RETRY_DELAY = 10_000; // ms between attempts to reconnect
const CONTROLS = ["region", "multiplier", "smooth"];
const READING_TIME = 5000; // ms for which an important message stays
const POLICY_VIOLATION = 1008, TRY_AGAIN_LATER = 1013, NORMAL_CLOSURE = 1000; // WebSocket close codes

const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((each) => [each.id, each]));
const context = page.portrait.getContext("2d", { alpha: false });
const figures = new Figures(page);
const recorder = new Recorder(page.portrait, page.saved);
const photos = new Map(); // name → file, the visitor's own photos
const theme = new URLSearchParams(location.search).get("theme");
if (theme) document.documentElement.dataset.theme = theme;

let stream = null;
let device = null; // the camera or the microphone, whichever is on
let chosen = null; // name of the selected portrait
let active = null; // name of the portrait that the server confirmed
let known = new Set(); // names that the server knows in this connection
let options = {}; // the server's defaults, including options without a control here
let retryDelay = 1000; // ms before the next attempt to connect
let readUntil = 0; // until when an important message must not be replaced

function showMessage(sentence, isWarning = false, mustBeRead = isWarning) {
  readUntil = mustBeRead ? performance.now() + READING_TIME : 0;
  if (page.message.textContent !== sentence) page.message.textContent = sentence;
  page.message.classList.toggle("warning", isWarning);
}

// Camera and microphone: only one is on at a time

const camera = new Camera(page.camera, () => stream, () => page.mirror.checked, onDeviceLost);
const microphone = new Microphone(() => stream, onDeviceLost);
const buttons = new Map([[camera, page.start], [microphone, page.speak]]);

async function start(next) {
  showMessage(`Waiting for the ${next.name}…`);
  try {
    await next.start();
  } catch (error) {
    next.stop();
    return showMessage(error.message, true);
  }
  const before = device;
  before?.stop();
  device = next;
  updateVolume();
  if (!stream) connect();
  else if (stream.isOpen) {
    recorder.stop();
    stream.speak(isSpeaking() ? {} : false);
    showMessage(device.hint);
  }
  updateControls();
}

function stop() {
  device?.stop();
  device = null;
  stream?.close();
  recorder.stop();
  updateControls();
}

function onDeviceLost(lost) {
  if (lost !== device) return;
  stop();
  showMessage(`The ${lost.name} was disconnected: plug it in, then start again.`, true);
}

const isSpeaking = () => device === microphone;

function updateVolume() {
  if (isSpeaking()) microphone.loudspeaker.isOn = page.hear.checked;
}

// The stream

const address = (path) => new URL(`v1/live/${path}`, location.href);

// Fetch from the server, asking the visitor for a token if it requires one.
async function fetchFromServer(path) {
  for (;;) {
    const token = sessionStorage.getItem("token");
    const answer = await fetch(address(path), { headers: token ? { Authorization: `Bearer ${token}` } : {} });
    if (answer.ok) return answer;
    const { detail } = await answer.json();
    const given = answer.status === 401 && prompt("Token for this service:");
    if (!given) throw new Error(detail);
    sessionStorage.setItem("token", given);
  }
}

function connect() {
  const url = address("stream");
  url.protocol = url.protocol.replace("http", "ws");
  known = new Set();
  const token = sessionStorage.getItem("token");
  const own = (stream = new LiveStream(url, token, { onOpen, onPicture, onMessage, onClose }));
  function onClose(code, reason) {
    if (stream !== own) return;
    stream = null;
    updateControls();
    if (!device || code === NORMAL_CLOSURE) return;
    const lost = `${sentence(reason || "The connection was lost")} Trying again…`;
    const expected = { [POLICY_VIOLATION]: "Paused.", [TRY_AGAIN_LATER]: "All live streams are in use: waiting for one…" };
    showMessage(expected[code] ?? lost, true);
    setTimeout(() => device && !stream && !document.hidden && connect(), retryDelay);
    retryDelay = Math.min(2 * retryDelay, MAX_RETRY_DELAY);
  }
}

function onOpen() {
  if (chosen) choose(chosen);
  if (isSpeaking()) stream.speak({});
  showMessage(device.hint);
  updateControls();
}

function onMessage({ portraits, portrait, options: begun, error }) {
  if (portraits) {
    known = new Set(portraits);
    options = begun;
    if (page.options.dataset.changed) sendOptions();
    else for (const name of CONTROLS) if (name in options) page.options.elements[name].value = options[name];
  }
  if (error) {
    showMessage(sentence(error), true);
    if (photos.delete(portrait)) page.portraits.querySelector(`[data-name="${CSS.escape(portrait)}"]`).remove();
    if (portrait === chosen && active) showSelected(active);
  } else if (portrait) {
    known.add((active = portrait));
    if (device) showMessage(device.hint);
  }
}

async function onPicture(blob, reply, samples) {
  const heardIn = samples && isSpeaking() ? microphone.loudspeaker.play(samples) : 0;
  const bitmap = await createImageBitmap(blob);
  if (stream) stream.seen = Math.max(stream.seen, reply.reply);
  const early = reply.arrived + heardIn - performance.now();
  if (early > 1) await new Promise((done) => setTimeout(done, early));
  drawPortrait(bitmap);
  bitmap.close();
  retryDelay = 1000;
  requestAnimationFrame(() => figures.count(reply, performance.now()));
  const isLost = !samples && !reply.face;
  page.portrait.closest(".pictures").classList.toggle("lost", isLost);
  if (!device || Boolean(samples) !== isSpeaking() || performance.now() < readUntil) return;
  if (samples) showMessage(reply.said ? "The portrait says what you say." : microphone.hint);
  else if (!reply.started) showMessage(camera.hint);
  else if (isLost) showMessage("No face in sight: the portrait waits.", true, false);
  else showMessage("The portrait follows you.");
}

// Fill the canvas. While recording, the canvas keeps its size, and other portraits are fitted into it.
function drawPortrait(picture) {
  const canvas = page.portrait;
  if (!recorder.isRecording && (canvas.width !== picture.width || canvas.height !== picture.height)) {
    canvas.width = picture.width;
    canvas.height = picture.height;
  }
  const ratio = Math.min(canvas.width / picture.width, canvas.height / picture.height);
  const [width, height] = [picture.width * ratio, picture.height * ratio];
  if (width < canvas.width || height < canvas.height) context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
}

// Portraits and options

async function listPortraits() {
  try {
    const names = await (await fetchFromServer("portraits")).json();
    if (!names.length) showMessage("Choose your own photo, then start the camera or the microphone.");
    for (const name of names) {
      const picture = await (await fetchFromServer(`portraits/${encodeURIComponent(name)}`)).blob();
      addPortrait(name, URL.createObjectURL(picture));
      if (!chosen) choose(name);
    }
  } catch (error) {
    showMessage(sentence(error.message), true);
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
  image.decode().then(() => !stream && chosen === name && drawPortrait(image), () => {});
  return button;
}

function showSelected(name) {
  chosen = name;
  for (const button of page.portraits.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", button.dataset.name === name);
    const image = button.querySelector("img");
    if (!stream && button.dataset.name === name && image.naturalWidth) drawPortrait(image);
  }
}

function choose(name) {
  showSelected(name);
  if (!stream?.isOpen) return;
  if (photos.has(name) && !known.has(name)) {
    showMessage("Opening the photo…", false, true);
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

function updateControls() {
  const isOpen = stream?.isOpen;
  page.reset.disabled = !isOpen || isSpeaking();
  page.record.disabled = !isOpen && !recorder.isRecording;
  page.record.setAttribute("aria-pressed", recorder.isRecording);
  page.record.textContent = recorder.isRecording ? "Stop recording" : "Record";
  for (const [each, button] of buttons) {
    button.textContent = each === device ? `Stop the ${each.name}` : each.label;
    button.classList.toggle("first", !device && each === camera);
  }
  page.portrait.closest(".pictures").classList.toggle("speaking", isSpeaking());
  page.sensor.textContent = isSpeaking() ? microphone.name : camera.name;
}

// Format a message of the server as a sentence; a file name at the start is not capitalised.
function sentence(text) {
  const begin = /^[a-z]+ /.test(text) ? text[0].toUpperCase() : text[0];
  return `${begin}${text.slice(1)}${/[.!?…]$/.test(text) ? "" : "."}`;
}

for (const [each, button] of buttons) {
  button.onclick = () => (each === device ? (stop(), showMessage("Stopped.")) : start(each));
}
page.reset.onclick = () => stream?.command({ reset: true });
page.record.onclick = () => {
  if (recorder.isRecording) recorder.stop();
  else recorder.start(isSpeaking() ? microphone.loudspeaker.recordingOutput.stream.getTracks() : []);
  updateControls();
};
page.options.onsubmit = (event) => event.preventDefault();
page.options.onchange = ({ target }) => {
  if (target === page.hear) return updateVolume();
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
  if (!document.hidden && device && !stream) connect();
};
window.onpagehide = stop;

page.camera.classList.toggle("mirrored", page.mirror.checked);
showMessage("Choose a portrait, then start the camera or the microphone. They are sent to this page's server only.");
updateControls();
listPortraits();
