/** The page's interface to its workers: one finds faces, one renders. */

import { Pacing } from "./pacing.js";
import { requireWebAssembly } from "./runtime.js";
import { Calls } from "./workers/calls.js";

export class Studio {
    isOpen = false;
    following = null; // the camera

    /** @param {URLSearchParams} asked parameters of the address @param {(news: object) => void} onNews receives progress */
    constructor(asked, onNews) {
        requireWebAssembly();
        this.wish = { runtime: asked.get("runtime"), threads: Number(asked.get("threads")) || null };
        this.loaded = [0, 0];
        this.onNews = onNews;
        [this.face, this.render] = ["face", "render"].map((name, index) => {
            const worker = new Worker(new URL(`workers/${name}.js`, import.meta.url), { type: "module", name });
            return new Calls(worker, (news) => this.heard(news, index));
        });
    }

    heard(news, index) {
        if (news.kind === "loading") {
            this.loaded[index] = news;
            const [bytes, all] = ["bytes", "all"].map((part) => this.loaded.reduce((sum, each) => sum + (each[part] ?? 0), 0));
            this.onNews({ kind: "loading", share: bytes / all });
        } else {
            this.onNews(news);
        }
    }

    /** Load everything. @param {HTMLCanvasElement} canvas on which portraits are drawn */
    async start(canvas) {
        const offscreen = canvas.transferControlToOffscreen();
        const { port1, port2 } = new MessageChannel(); // between the workers
        const [facts] = await Promise.all([
            this.render.call("start", { ...this.wish, canvas: offscreen, port: port1 }, [offscreen, port1]),
            this.face.call("start", { ...this.wish, port: port2 }, [port2]),
        ]);
        return facts;
    }

    /**
     * Open a photo; its largest face is the one that moves.
     * @param {Blob} file
     * @returns {Promise<{boxes: import("./types.js").Box[], chosen: number}>} the boxes of its faces, from the left, in
     * widths and heights of the photo, and the index of the largest
     */
    async open(file) {
        const { seen, boxes, chosen } = await this.face.call("open", { file, name: file.name });
        await this.render.call("open", seen, [seen.picture.data.buffer]);
        this.isOpen = true;
        return { boxes, chosen };
    }

    /** Select the face of the photo that moves. @param {number} face counted from the left, 0 is the leftmost */
    async choose(face) {
        await this.render.call("open", await this.face.call("choose", face));
    }

    /**
     * Show the whole photo, or the face alone.
     * @param {"photo" | "face"} view @returns {Promise<{width: number, height: number}>}
     */
    view(view) {
        return this.render.call("view", view);
    }

    /**
     * Show the portrait edited by sliders. While one edit is rendered, only the latest of the others is kept.
     * @param {Record<string, number>} sliders
     */
    edit(sliders) {
        this.wanted = sliders;
        this.edits ??= this.editing().finally(() => (this.edits = null));
        return this.edits;
    }

    async editing() {
        while (this.wanted) {
            const sliders = this.wanted;
            this.wanted = null;
            await this.render.call("edit", sliders);
        }
    }

    /** The portrait as shown. @returns {Promise<Blob>} a PNG file */
    async picture() {
        await this.edits;
        return this.render.call("picture");
    }

    /** Make a video of the portrait. @param {string | File} motion */
    animate(motion, options) {
        return this.render.call("animate", { ...options, motion });
    }

    /**
     * Follow a camera until `stop`. @param {import("./view/photos.js").Camera} camera
     * @param {(shown: {face: boolean, count: number, rate: number, delay: number}) => void} onShown receives, after each
     * frame, whether it shows a face, the frames so far, frames per second, and ms from the camera to the screen
     */
    async live(camera, { transfer }, onShown) {
        this.following = camera;
        const pacing = new Pacing();
        let begins = true;
        try {
            while (this.following) {
                await pacing.due();
                const frame = await camera.frame();
                if (!frame) {
                    break;
                }
                const taken = performance.now();
                const sight = await this.face.call("see", { frame, begins }, [frame]);
                await pacing.room();
                const shown = this.render.call("follow", { sight, begins, rate: camera.rate, transfer });
                pacing.add(shown, taken, (facts) => onShown({ face: Boolean(sight.face), ...facts }));
                begins = false;
            }
            await pacing.end();
        } finally {
            this.following = null;
            await this.render.call("rest");
        }
    }

    /** Stop what is in progress. */
    stop() {
        this.following?.interrupt();
        this.following = null;
        return this.render.call("stop");
    }
}
