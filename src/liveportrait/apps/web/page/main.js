/** The page: passes the visitor's files and choices to the workers, and shows the results. */

import { messageOf } from "./errors.js";
import { Studio } from "./studio.js";
import { FaceButtons } from "./view/faces.js";
import { askForPhotos, Camera } from "./view/photos.js";
import { motionChoices, optionsOf, resetSliders, showValues, sliderRows } from "./view/options.js";
import { Stage } from "./view/stage.js";

const $ = (id) => document.getElementById(id);
const stage = new Stage();
const asked = new URLSearchParams(location.search);
const camera = new Camera($("viewfinder"));
const faces = new FaceButtons($("faces"), chooseFace);
let studio = null;
let driver = null; // the driving video file, once chosen
let busy = null; // what is in progress: "video", "live" or "camera" (taking a photo)
let early = null; // a photo chosen before the networks were loaded
let opening = 0; // photos and faces that are being opened or are waiting to be
let turn = Promise.resolve(); // opens them one after the other

/** Do work that may fail, and show the error if it does. */
async function attempt(work) {
    try {
        return await work();
    } catch (error) {
        if (error?.name !== "AbortError") {
            console.error(error);
            stage.warn(messageOf(error));
        } else {
            stage.say("Cancelled.");
        }
        return null;
    }
}

function enable() {
    const ready = Boolean(studio?.isOpen) && !busy && !opening;
    $("animate").disabled = !ready;
    $("sliders").disabled = !ready;
    $("change").disabled = $("camera").disabled = !studio || (Boolean(busy) && busy !== "camera");
    $("faces").hidden = Boolean(busy) || faces.count < 2 || optionsOf($("options")).view !== "photo";
}

function restSliders() {
    resetSliders($("sliders"));
    showValues($("options"));
}

/** Open a portrait once earlier ones are open. @param {() => Promise<void>} work */
async function open(work) {
    opening += 1;
    enable();
    turn = turn.then(() => attempt(work));
    await turn;
    opening -= 1;
    enable();
}

/** Open a photo and show the faces in it. @param {Blob} file */
async function openPhoto(file) {
    if (busy === "camera") {
        stopCamera();
    }
    if (busy) {
        stage.hint = ` ${busy === "live" ? "Stop" : "Cancel"} before you choose another portrait.`;
        return;
    }
    await open(async () => {
        stage.say("Looking for faces…");
        const { boxes, chosen } = await studio.open(file);
        faces.show(boxes, chosen);
        await showView();
        const choice = boxes.length > 1 ? `${boxes.length} faces found: select the one that should move. ` : "";
        stage.say(`${choice}Choose a motion, then animate.`);
        restSliders();
    });
}

/** Select the face of the photo that moves. @param {number} face counted from the left */
async function chooseFace(face) {
    await open(async () => {
        await studio.choose(face);
        faces.press(face);
        await showView();
        restSliders();
        stage.say(`Face ${face + 1} of ${faces.count} from the left will move.`);
    });
}

/** Open a photo now, or once the networks are loaded; a video becomes the motion. @param {Blob} file */
function take(file) {
    if (file.type.startsWith("video/")) {
        takeDriver(file);
    } else if (document.body.dataset.ready === "yes") {
        openPhoto(file);
    } else {
        early = file;
    }
}

/** @param {File} file a driving video */
function takeDriver(file) {
    driver = file;
    const choice = document.querySelector("[name=motion][value=video]");
    if (choice) {
        choice.checked = true;
    }
    Object.assign($("chosen"), { textContent: `Own video: ${file.name}`, hidden: false });
    if (!busy) {
        stage.say(`The portrait will follow ${file.name}.`);
    }
}

/** Show the unchanged portrait: the whole photo or only the face, as selected. */
async function showView() {
    const { width, height } = await studio.view(optionsOf($("options")).view);
    stage.showPortrait(width, height);
}

/** Make a video with the selected motion. */
async function animate() {
    const options = optionsOf($("options"));
    if (options.motion === "live") {
        return live();
    }
    if (options.motion === "video" && !driver) {
        $("driver").click();
        return;
    }
    busy = "video";
    enable();
    stage.working("Animating…");
    await attempt(async () => {
        await studio.view(options.view);
        const motion = options.motion === "video" ? driver : options.motion;
        const made = await studio.animate(motion, options);
        stage.showResult(made);
    });
    busy = null;
    stage.rest();
    enable();
}

/** Follow the camera until the visitor stops it. */
async function live() {
    busy = "live";
    enable();
    stage.working("Starting the camera…", true);
    await attempt(async () => {
        await camera.start();
        stage.showCamera(true);
        const options = optionsOf($("options"));
        await studio.view(options.view);
        await studio.live(camera, options, (shown) => stage.followed(shown));
    });
    camera.stop();
    stage.showCamera(false);
    busy = null;
    stage.rest();
    enable();
}

/** Save the portrait as shown. */
async function savePicture() {
    const file = await attempt(() => studio.picture());
    if (file) {
        stage.save(file, "portrait.png");
    }
}

async function takePhoto() {
    if (busy === "camera") {
        await attempt(async () => {
            const photo = await camera.photo();
            stopCamera();
            await openPhoto(photo);
        });
        return;
    }
    await attempt(async () => {
        await camera.start();
        busy = "camera";
        stage.showViewfinder(true);
        $("camera").textContent = "Take it";
        stage.say("Look straight into the camera.");
    });
    enable();
}

function stopCamera() {
    camera.stop();
    busy = null;
    stage.showViewfinder(false);
    $("camera").textContent = "Take a photo";
    stage.say("");
    enable();
}

/** Stop whatever is in progress. */
function interrupt() {
    if (busy === "camera") {
        stopCamera();
    } else if (busy) {
        studio.stop();
    }
}

async function start() {
    stage.say("Loading the networks…");
    studio = new Studio(asked, (news) => stage.heard(news));
    const { runtime, motions, sliders } = await studio.start(stage.canvas);
    $("runtime").textContent = runtime;
    motionChoices($("motions"), motions);
    sliderRows($("sliders"), sliders);
    showValues($("options"));
    stage.say("");
    document.body.dataset.ready = "yes";
    if (early) {
        await openPhoto(early);
    }
}

$("animate").addEventListener("click", animate);
$("cancel").addEventListener("click", interrupt);
$("change").addEventListener("click", () => $("photo").click());
$("camera").addEventListener("click", takePhoto);
$("save").addEventListener("click", savePicture);
$("still").addEventListener("click", () => {
    restSliders();
    stage.forget();
    attempt(() => studio.edit({}));
});
$("frame").addEventListener("click", ({ target }) => {
    // Once there is a portrait, only the button opens another.
    if (target !== $("photo") && !$("frame").classList.contains("filled")) {
        $("photo").click();
    }
});
$("driver").addEventListener("change", ({ target }) => {
    if (target.files[0]) {
        takeDriver(target.files[0]);
    }
});
$("motions").addEventListener("click", ({ target }) => {
    if (target.value === "video") {
        $("driver").click();
    }
});
$("options").addEventListener("input", ({ target }) => {
    showValues($("options"));
    if (target.name === "view" && studio?.isOpen && !busy) {
        restSliders();
        attempt(showView).then(enable);
    }
    if ($("sliders").contains(target) && studio?.isOpen && !busy) {
        stage.forget();
        stage.say("");
        attempt(() => studio.edit(optionsOf($("options")).sliders));
    }
});
$("options").addEventListener("submit", (event) => event.preventDefault());
addEventListener("keydown", ({ key }) => {
    if (key === "Escape") {
        interrupt();
    }
});
addEventListener("beforeunload", (event) => {
    if (busy === "video") {
        event.preventDefault(); // makes the browser ask for confirmation
    }
});

askForPhotos($("frame"), $("photo"), take);
await attempt(start);
if (!document.body.dataset.ready) {
    $("photo").disabled = $("camera").disabled = true;
    document.body.dataset.ready = "no";
}
