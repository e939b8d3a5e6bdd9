/**
 * When a live camera's pictures are taken: just early enough for a picture's face to be found when a worker becomes free to
 * render it. Frames never queue; those that the camera shows in between are left out.
 */

const SHARE = 0.3; // of the last frame in the running means
const EARLY = 0.7; // part of the mean time after which a worker may be free

export class Pacing {
    atOnce = 1; // frames that are rendered at once
    rendering = []; // promises of those that are, in order
    count = 0; // frames shown
    begun = performance.now();
    started = -Infinity; // when the last frame went to be rendered, ms
    found = 0; // mean ms until a picture is there and its face found
    rendered = 0; // mean ms until it is shown

    /** Wait until it is time for another picture; `found` counts from here. */
    async due() {
        while (this.rendering.length > this.atOnce) {
            await this.rendering[0];
        }
        const due = this.started + (EARLY * this.rendered) / this.atOnce - this.found;
        const early = due - performance.now();
        if (early > 0) {
            await new Promise((resolve) => setTimeout(resolve, early));
        }
        this.asked = performance.now();
    }

    /** Wait for a free worker: the picture's face is found. */
    async room() {
        this.found += SHARE * (performance.now() - this.asked - this.found);
        while (this.rendering.length >= this.atOnce) {
            await this.rendering[0];
        }
    }

    /**
     * Count a frame that is being rendered.
     * @param {Promise<number>} shown resolves once it is seen, to the number of frames that are rendered at once
     * @param {number} taken ms, when its picture was
     * @param {(facts: {count: number, rate: number, delay: number}) => void} onShown receives the frames so far, how many a
     * second, and ms from the camera to the screen
     */
    add(shown, taken, onShown) {
        const started = (this.started = performance.now());
        const done = shown.then((atOnce) => {
            const now = performance.now();
            this.rendering.shift();
            this.atOnce = atOnce;
            this.rendered += SHARE * (now - started - this.rendered);
            this.count += 1;
            onShown({ count: this.count, rate: (1000 * this.count) / (now - this.begun), delay: now - taken });
        });
        done.catch(() => {}); // thrown where it is awaited
        this.rendering.push(done);
    }

    /** Wait for all frames. */
    async end() {
        await Promise.all(this.rendering);
    }
}
