/**
 * Decides when to take pictures from a live camera: just early enough that the face has been found when a worker becomes
 * free to render it. Frames never queue; those in between are skipped.
 */

const SHARE = 0.3; // weight of the last frame in the running means
const EARLY = 0.7; // fraction of the mean rendering time after which a worker may be free

export class Pacing {
    atOnce = 1; // frames rendered in parallel
    rendering = []; // promises of the frames being rendered, in order
    count = 0; // frames shown
    begun = performance.now();
    started = -Infinity; // when rendering of the last frame started, ms
    found = 0; // mean time to take a picture and find the face, ms
    rendered = 0; // mean time from then until it is shown, ms

    /** Wait until it is time to take the next picture; `found` is measured from here. */
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

    /** Called once the face is found: wait for a free worker. */
    async room() {
        this.found += SHARE * (performance.now() - this.asked - this.found);
        while (this.rendering.length >= this.atOnce) {
            await this.rendering[0];
        }
    }

    /**
     * Register a frame that is being rendered.
     * @param {Promise<number>} shown resolves once the frame is shown, to the number of frames that may be rendered in parallel
     * @param {number} taken when its picture was taken, ms
     * @param {(facts: {count: number, rate: number, delay: number}) => void} onShown receives the frames so far, frames per
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
        done.catch(() => {}); // errors surface where it is awaited
        this.rendering.push(done);
    }

    /** Wait for all frames. */
    async end() {
        await Promise.all(this.rendering);
    }
}
