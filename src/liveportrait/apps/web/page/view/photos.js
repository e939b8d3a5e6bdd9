/** Photos from files, drag and drop, the clipboard and the camera. */

import { UserError } from "../errors.js";

/**
 * Take photos from the file input, drag and drop, and the clipboard.
 *
 * @param {HTMLElement} frame on which files are dropped @param {HTMLInputElement} input
 * @param {(file: Blob) => void} onPhoto
 */
export function askForPhotos(frame, input, onPhoto) {
    input.addEventListener("change", () => {
        if (input.files[0]) {
            onPhoto(input.files[0]);
        }
        input.value = ""; // so that the same file can be chosen again
    });
    addEventListener("dragover", (event) => {
        event.preventDefault();
        frame.classList.add("over");
    });
    addEventListener("dragleave", () => frame.classList.remove("over"));
    addEventListener("drop", (event) => {
        event.preventDefault();
        frame.classList.remove("over");
        const [file] = event.dataTransfer.files;
        if (file) {
            onPhoto(file);
        }
    });
    addEventListener("paste", ({ clipboardData }) => {
        const file = [...clipboardData.files].find(({ type }) => type.startsWith("image/"));
        if (file) {
            onPhoto(file);
        }
    });
}

/** This machine's camera, shown in a video element. */
export class Camera {
    /** @param {HTMLVideoElement} video */
    constructor(video) {
        this.video = video;
        this.waiting = null; // settles the promise of the next frame
        this.gone = null; // the error, once the camera is disconnected
    }

    /** Ask for the camera and start it. Throws a `UserError` if there is none. */
    async start() {
        if (!navigator.mediaDevices?.getUserMedia) {
            throw new UserError("Browsers allow cameras only on https pages and on localhost.");
        }
        const wanted = { video: { facingMode: "user", width: { ideal: 1280 } } };
        try {
            this.video.srcObject = await navigator.mediaDevices.getUserMedia(wanted);
        } catch (error) {
            const refused = error.name === "NotAllowedError";
            throw new UserError(refused ? "The camera is blocked: allow it in the browser's settings." : "There is no camera, or another program is using it.");
        }
        const [track] = this.video.srcObject.getVideoTracks();
        this.gone = null;
        track.addEventListener("ended", () => {
            this.gone = new UserError("The camera was disconnected: is it still plugged in?");
            this.waiting?.reject(this.gone);
        });
        this.rate = track.getSettings().frameRate || 25;
        await this.video.play();
    }

    /** The next new frame; null if interrupted. @returns {Promise<?VideoFrame>} */
    async frame() {
        if (this.gone) {
            throw this.gone;
        }
        return new Promise((resolve, reject) => {
            const waiting = (this.waiting = { resolve, reject });
            this.video.requestVideoFrameCallback(() => {
                if (this.waiting === waiting) {
                    resolve(new VideoFrame(this.video));
                }
            });
        });
    }

    /** Stop waiting for a frame. */
    interrupt() {
        this.waiting?.resolve(null);
        this.waiting = null;
    }

    /** A photo. @returns {Promise<Blob>} */
    async photo() {
        const canvas = new OffscreenCanvas(this.video.videoWidth, this.video.videoHeight);
        canvas.getContext("2d").drawImage(this.video, 0, 0);
        return canvas.convertToBlob();
    }

    /** Release the camera. */
    stop() {
        this.interrupt();
        this.video.srcObject?.getTracks().forEach((track) => track.stop());
        this.video.srcObject = null;
    }
}
