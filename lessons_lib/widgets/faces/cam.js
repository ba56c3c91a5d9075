// Lesson 05: the evidence for any class, laid over a picture.

import {best, draw, enlarge, fill, options, overlay, scale, short} from "./pieces.js";

const HTML = `
<div class="controls">
<label data-part="choice">Picture <select data-part="name"></select></label>
<label>Overlay <input type="range" data-part="strength" min="0" max="1" step="0.05" value="0.75"></label>
<label>Threshold <input type="range" data-part="threshold" min="0" max="1" step="0.05" value="0.5"></label>
</div>
<div class="pair">
<div>
<div class="stage"><canvas data-part="map" role="img"></canvas></div>
<div class="scale" data-part="scale" hidden></div>
<p class="note" data-part="note" role="status"></p>
</div>
<div>
<div class="stage"><canvas data-part="cut" role="img"></canvas></div>
<p class="note" data-part="left"></p>
</div>
<div class="classes">
<label>Find a class <input data-part="find" type="search" autocomplete="off"></label>
<label>Class, the most probable first <select data-part="class" size="8"></select></label>
</div>
</div>`;

export function face(root, ask, about) {
    const {classes, offered = [...about.classes.keys()]} = about, parts = fill(root, HTML);
    const state = root.state = {
        title: "", pixels: null, width: 1, height: 1, // the picture
        probabilities: null, k: 0, evidence: null, shape: null, // of all classes; the class and its map
    };
    let questions = 0; // how many there were: an answer to an earlier one is no longer wanted

    async function renew() {
        const number = ++questions, name = parts.name.value;
        Object.assign(state, {probabilities: null, evidence: null});
        const picture = await ask("picture", {name});
        if (number !== questions) return;
        Object.assign(state, picture);
        drawMap();
        const {probabilities} = await ask("clean", {name});
        if (number !== questions) return;
        state.probabilities = probabilities;
        await choose(offered.reduce((a, b) => probabilities[b] > probabilities[a] ? b : a));
    }

    async function choose(k) {
        const number = ++questions, {evidence, shape, logit} = await ask("evidence", {name: parts.name.value, k});
        if (number !== questions) return;
        Object.assign(state, {k, evidence, shape, logit});
        list();
        drawMap();
    }

    // the classes whose names hold what was typed
    function list() {
        const wanted = parts.find.value.trim().toLowerCase(), {probabilities, k} = state;
        const found = offered.filter(k => classes[k].toLowerCase().includes(wanted));
        if (probabilities) found.sort((a, b) => probabilities[b] - probabilities[a]);
        const named = k => [k, classes[k] + (probabilities ? `: ${short(probabilities[k])}` : "")];
        options(parts.class, found.map(named), k);
    }

    function drawMap() {
        const {title, pixels, width, height, evidence, shape, k, logit} = state;
        if (!pixels) return;
        if (!evidence) {
            for (const part of [parts.map, parts.cut]) draw(part, pixels, width, height, `${title}, without a map`);
            parts.left.textContent = "";
            scale(parts.scale, null);
            parts.note.textContent = "The map comes with the network’s answer.";
            return;
        }
        const values = [...evidence], limit = Math.max(...values.map(Math.abs)), most = best(values);
        const where = (count, length) => pixel => (pixel + 0.5) * count / length - 0.5;
        const over = enlarge(values, shape, [height, width], where(shape[0], height), where(shape[1], width));
        const shown = overlay(pixels, over, limit, Number(parts.strength.value));
        draw(parts.map, shown, width, height, `Evidence for ${classes[k]}, over ${title}: largest, `
            + `${short(values[most])}, in row ${Math.floor(most / shape[1]) + 1} and column ${most % shape[1] + 1} of `
            + `${shape.join(" × ")}; least, ${short(Math.min(...values))}`);
        scale(parts.scale, limit);
        const threshold = Number(parts.threshold.value), least = threshold * Math.max(...over);
        const enough = value => value > 0 && value >= least, share = over.filter(enough).length / over.length;
        const cut = pixels.map((shade, i) => i % 4 === 3 || enough(over[i >> 2]) ? shade : shade / 4 + 20);
        parts.left.textContent = values[most] > 0
            ? `At least ${Math.round(100 * threshold)} % of the largest evidence: ${Math.round(100 * share)} % of the `
            + "picture."
            : "Nothing here is evidence for this class.";
        const words = `${title}, dark but where there is enough evidence. ${parts.left.textContent}`;
        draw(parts.cut, cut, width, height, words);
        parts.note.textContent = `Evidence for ${classes[k]} (red) and against it (blue) at ${shape.join(" × ")} `
            + `places of the last feature maps; its mean, ${short(logit)}, is the logit of ${classes[k]}.`;
    }

    parts.choice.hidden = !about.pictures;
    options(parts.name, (about.pictures ?? []).map(name => [name, name]), about.pictures?.[0]);
    parts.name.addEventListener("change", renew);
    parts.find.addEventListener("input", list);
    for (const part of [parts.strength, parts.threshold]) part.addEventListener("input", drawMap);
    parts.class.addEventListener("change", () => choose(Number(parts.class.value)));
    list();
    renew();
    return renew;
}
