/** The visible part: the portrait, the result, messages and progress. */

const $ = (id) => document.getElementById(id);

export class Stage {
    canvas = $("canvas");
    hint = ""; // shown after the progress of the current work

    /** Show a message. */
    say(text) {
        $("message").textContent = text;
        $("message").className = "";
    }

    /** Show what went wrong. */
    warn(text) {
        this.say(text);
        $("message").classList.add("warning");
    }

    /** Show a worker's progress. */
    heard({ kind, share, frame, frames, rate, threads }) {
        if (kind === "loading" && !document.body.dataset.ready) {
            this.say(share < 1 ? `Loading the networks… ${Math.round(100 * share)} %` : "Preparing the networks…");
        } else if (kind === "tracking") {
            $("progress").value = frame / frames;
            this.say(`Tracking the face: frame ${frame} of ${frames}.${this.hint}`);
        } else if (kind === "threads") {
            document.body.dataset.threads = threads; // rendering now
        } else if (kind === "frame") {
            $("progress").value = frame / frames;
            document.body.dataset.frames = frame;
            const left = Math.ceil((frames - frame) / rate);
            this.say(`Frame ${frame} of ${frames}, ${rate.toFixed(1)} per second, ${spelled(left)} left.${this.hint}`);
        }
    }

    /** Show the progress of following the camera, see `Studio.live`. */
    followed({ face, count, rate, delay }) {
        Object.assign(document.body.dataset, { frames: count, delay });
        const text = face ? `The portrait follows: ${rate.toFixed(1)} frames per second.` : "No face in sight: the portrait waits.";
        this.say(text + this.hint);
    }

    /** Show the portrait instead of the result. */
    showPortrait(width, height) {
        this.canvas.ariaLabel = `The portrait, ${width} by ${height} pixels`;
        $("frame").classList.add("filled");
        $("change").hidden = $("sliders").hidden = false;
        this.forget();
    }

    /** @param {{file: Blob, name: string, frames: number, seconds: number, note: string}} made */
    showResult({ file, name, frames, seconds, note }) {
        this.forget();
        const address = URL.createObjectURL(file);
        const [result, download] = [$("result"), $("download")];
        result.src = address;
        Object.assign(download, { href: address, download: name, hidden: false });
        this.arrange();
        this.say(`${frames} ${frames === 1 ? "frame" : "frames"} in ${seconds.toFixed(1)} s. ${note}`.trim());
        download.focus();
    }

    /** Download a file. @param {Blob} file */
    save(file, name) {
        const address = URL.createObjectURL(file);
        Object.assign(document.createElement("a"), { href: address, download: name }).click();
        setTimeout(() => URL.revokeObjectURL(address), 60_000);
    }

    /** Discard the last result and show the portrait. */
    forget() {
        const result = $("result");
        if (result.src) {
            URL.revokeObjectURL(result.src);
            result.removeAttribute("src");
            result.load();
        }
        $("download").hidden = true;
        this.arrange();
    }

    /** Show the result, the portrait or the invitation, whichever there is; nothing but the camera with `viewfinder`. */
    arrange(viewfinder = false) {
        const isFilled = $("frame").classList.contains("filled");
        const isMade = $("result").hasAttribute("src");
        $("result").hidden = viewfinder || !isMade;
        $("picture").hidden = viewfinder || isMade || !isFilled;
        $("invitation").hidden = viewfinder || isFilled;
    }

    /** Show that work is in progress. @param {boolean} endless whether it runs until stopped */
    working(text, endless = false) {
        this.forget();
        this.say(text);
        $("work").hidden = false;
        $("progress").hidden = endless;
        $("progress").value = 0;
        $("cancel").textContent = endless ? "Stop" : "Cancel";
        $("animate").hidden = true;
    }

    /** Show that no work is in progress. */
    rest() {
        this.hint = "";
        $("work").hidden = true;
        $("animate").hidden = false;
    }

    /** Show the camera's picture in a corner of the portrait. */
    showCamera(shown) {
        $("viewfinder").hidden = !shown;
        $("viewfinder").classList.toggle("corner", shown);
    }

    /** Show the camera's picture instead of the portrait. */
    showViewfinder(shown) {
        $("viewfinder").hidden = $("work").hidden = !shown;
        $("progress").hidden = shown;
        $("cancel").textContent = "Cancel";
        this.arrange(shown);
    }
}

function spelled(seconds) {
    return seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}
