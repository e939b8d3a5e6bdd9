// The live page: what camera or microphone give goes to the server, the portrait's pictures come back.

import { Camera } from "./camera.js";
import { Figures } from "./figures.js";
import { Microphone } from "./microphone.js";
import { Recorder } from "./recorder.js";
import { LiveStream } from "./stream.js";

const LONGEST_PAUSE = 10_000; // ms between attempts to connect again
const CONTROLS = ["region", "multiplier", "smooth"];
const READING = 5000; // ms for which a message stays
const SILENT = 1008, FULL = 1013, LEFT = 1000;

const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((each) => [each.id, each]));
const brush = page.portrait.getContext("2d", { alpha: false });
const figures = new Figures(page);
const recorder = new Recorder(page.portrait, page.saved);
const photos = new Map(); // name → file, of the visitor's own portraits
const theme = new URLSearchParams(location.search).get("theme");
if (theme) document.documentElement.dataset.theme = theme;

let stream = null;
let device = null; // the one of both that runs
let chosen = null; // name of the portrait that is wanted
let moving = null; // name of the one that moves
let known = new Set(); // names that this connection can be asked for
let options = {}; // those that the page has no control for, and where its controls begin
let pause = 1000; // ms before the next attempt to connect
let readUntil = 0; // when a message that has to be read may give way

function tell(sentence, isWarning = false, toBeRead = isWarning) {
  readUntil = toBeRead ? performance.now() + READING : 0;
  if (page.message.textContent !== sentence) page.message.textContent = sentence;
  page.message.classList.toggle("warning", isWarning);
}

// Camera and microphone: one of them runs

const camera = new Camera(page.camera, () => stream, () => page.mirror.checked, gone);
const microphone = new Microphone(() => stream, gone);
const buttons = new Map([[camera, page.start], [microphone, page.speak]]);

async function start(next) {
  tell(`Waiting for the ${next.name}…`);
  try {
    await next.start();
  } catch (error) {
    next.stop();
    return tell(error.message, true);
  }
  const before = device;
  before?.stop();
  device = next;
  hear();
  if (!stream) connect();
  else if (stream.isOpen) {
    recorder.stop();
    stream.speak(isSpeaking() ? {} : false);
    tell(device.hint);
  }
  show();
}

function stop() {
  device?.stop();
  device = null;
  stream?.close();
  recorder.stop();
  show();
}

function gone(lost) {
  if (lost !== device) return;
  stop();
  tell(`The ${lost.name} has gone: plug it in, then start again.`, true);
}

const isSpeaking = () => device === microphone;

function hear() {
  if (isSpeaking()) microphone.loudspeaker.isOn = page.hear.checked;
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
    if (!device || code === LEFT) return;
    if (code === FULL) return stop(), tell(sentence(reason), true);
    tell(code === SILENT ? "Paused." : `${sentence(reason || "The connection was lost")} Trying again…`, true);
    setTimeout(() => device && !stream && !document.hidden && connect(), pause);
    pause = Math.min(2 * pause, LONGEST_PAUSE);
  }
}

function onOpened() {
  if (chosen) choose(chosen);
  if (isSpeaking()) stream.speak({});
  tell(device.hint);
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
    if (device) tell(device.hint);
  }
}

async function onPicture(blob, reply, samples) {
  const heardIn = samples && isSpeaking() ? microphone.loudspeaker.say(samples) : 0;
  const bitmap = await createImageBitmap(blob);
  if (stream) stream.seen = Math.max(stream.seen, reply.reply);
  const early = reply.arrived + heardIn - performance.now();
  if (early > 1) await new Promise((done) => setTimeout(done, early));
  draw(bitmap);
  bitmap.close();
  pause = 1000;
  requestAnimationFrame(() => figures.count(reply, performance.now()));
  const isLost = !samples && !reply.face;
  page.portrait.closest(".pictures").classList.toggle("lost", isLost);
  if (!device || Boolean(samples) !== isSpeaking() || performance.now() < readUntil) return;
  if (samples) tell(reply.said ? "The portrait says what you say." : microphone.hint);
  else if (!reply.started) tell(camera.hint);
  else if (isLost) tell("No face in sight: the portrait waits.", true, false);
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
    if (!names.length) tell("Choose a photo of your own, then start the camera or the microphone.");
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

// What the server says, as a sentence of the page; it may begin with the name of a file, which stays as it is.
function sentence(text) {
  const begin = /^[a-z]+ /.test(text) ? text[0].toUpperCase() : text[0];
  return `${begin}${text.slice(1)}${/[.!?…]$/.test(text) ? "" : "."}`;
}

for (const [each, button] of buttons) {
  button.onclick = () => (each === device ? (stop(), tell("Stopped.")) : start(each));
}
page.reset.onclick = () => stream?.command({ reset: true });
page.record.onclick = () => {
  if (recorder.isRecording) recorder.stop();
  else recorder.start(isSpeaking() ? microphone.loudspeaker.tape.stream.getTracks() : []);
  show();
};
page.options.onsubmit = (event) => event.preventDefault();
page.options.onchange = ({ target }) => {
  if (target === page.hear) return hear();
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
tell("Choose a portrait and start the camera, or speak; both go to this page's own server alone.");
show();
listPortraits();
