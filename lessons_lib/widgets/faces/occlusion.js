// Lesson 04: a patch to move over a picture, bars that answer, and the map of all places.

import {bars, best, draw, enlarge, fill, latest, movable, options, overlay, say, scale, short} from "./pieces.js";

const PLACES = 14; // of the map, along the longer side: at 224 pixels every 16th
const TOGETHER = 7; // places that are asked for at a time
const BEST = 5;
const FILLED = {black: "black", zero: "zeros", grey: "grey", mean: "its mean colour", blur: "the picture, blurred"};

const HTML = `
<p class="controls">
<label data-part="choice">Picture <select data-part="name"></select></label>
<label>Patch <select data-part="side"></select></label>
<label>Filled with <select data-part="kind"></select></label>
</p>
<div class="pair">
<div>
<div class="stage" data-part="stage"><canvas data-part="picture" role="img"></canvas>
<div class="patch" data-part="patch" tabindex="0" role="application" aria-roledescription="movable patch"></div></div>
<p class="note">Drag the patch, press where it shall go, or move it with the arrow keys (with Shift by a pixel).</p>
</div>
<div>
<ol class="answers" data-part="answers" aria-label="The five best answers without a patch, and now"></ol>
<p class="where" data-part="where"></p><p class="heard" data-part="said" role="status"></p>
</div>
<div>
<div class="stage"><canvas data-part="map" role="img"></canvas></div>
<div class="scale" data-part="scale" hidden></div>
<p><label>What every place takes from <select data-part="class"></select></label></p>
<p><button type="button" data-part="sweep">Cover every part</button>
<progress data-part="swept" hidden max="1" value="0" aria-label="Computing the map"></progress></p>
<p class="note" data-part="note"></p>
</div>
</div>`;

export function face(root, ask, about) {
    const {classes, sides = [14, 7, 3.5].map(part => Math.round(about.size / part)), side = sides[1]} = about;
    const parts = fill(root, HTML);
    const state = root.state = {
        title: "", pixels: null, width: 1, height: 1, // the picture
        patch: {row: 0, column: 0, side, kind: about.kind},
        fill: null, // what patches show of it, as pixels
        clean: null, covered: null, // the probabilities without the patch and with it
        k: 0, swept: null, // the map's class, and the probabilities for each place of a patch
    };
    let pictures = 0, sweeps = 0; // how many there were: an answer about an earlier one is no longer wanted

    async function renew() {
        const number = ++pictures;
        stop();
        Object.assign(state, {clean: null, covered: null, swept: null});
        const {side, kind} = state.patch, name = parts.name.value;
        const {title, pixels, width, height} = await ask("picture", {name});
        const shown = await ask("fill", {name, side, kind});
        if (number !== pictures) return;
        if (!state.pixels) Object.assign(state.patch, {row: height >> 1, column: width >> 1});
        Object.assign(state, {title, pixels, width, height, fill: shown.pixels});
        drawPatch();
        drawMap();
        const {probabilities} = await ask("clean", {name});
        if (number !== pictures) return;
        Object.assign(state, {clean: probabilities, covered: probabilities, k: best(probabilities)});
        const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]).slice(0, BEST);
        options(parts.class, order.map(k => [k, classes[k]]), state.k);
        await move();
    }

    const move = latest(async () => {
        if (!state.clean) return;
        const number = pictures, {row, column, side, kind} = state.patch;
        const {probabilities} = await ask("patches", {name: parts.name.value, places: [{row, column}], side, kind});
        if (number !== pictures) return;
        state.covered = probabilities;
        drawAnswers();
    });

    async function refill() {
        const {side, kind} = Object.assign(state.patch, {side: Number(parts.side.value), kind: parts.kind.value});
        state.fill = (await ask("fill", {name: parts.name.value, side, kind})).pixels;
        drawPatch();
        await move();
    }

    function put(row, column) {
        const inside = (at, length) => Math.min(length - 1, Math.max(0, Math.round(at)));
        Object.assign(state.patch, {row: inside(row, state.height), column: inside(column, state.width)});
        drawPatch();
        move();
    }

    function stop() {
        sweeps++;
        parts.swept.hidden = true;
        parts.sweep.textContent = "Cover every part";
    }

    async function sweep() {
        stop();
        const number = sweeps, began = performance.now(), {side, kind} = state.patch, name = parts.name.value;
        const stride = Math.max(1, Math.round(Math.max(state.height, state.width) / PLACES)), found = [];
        const centres = length => Array.from({length: Math.ceil(length / stride)}, (_, i) => i * stride);
        const [rows, columns] = [centres(state.height), centres(state.width)];
        const places = rows.flatMap(row => columns.map(column => ({row, column})));
        [parts.swept.hidden, parts.swept.value] = [false, 0];
        parts.sweep.textContent = "Cancel";
        while (found.length < places.length) {
            const some = places.slice(found.length, found.length + TOGETHER);
            const {probabilities} = await ask("patches", {name, places: some, side, kind});
            if (number !== sweeps) return;
            some.forEach((_, i) => found.push(probabilities.subarray(i * classes.length, (i + 1) * classes.length)));
            parts.swept.value = found.length / places.length;
        }
        stop();
        const seconds = (performance.now() - began) / 1000;
        state.swept = {probabilities: found, side, kind, stride, shape: [rows.length, columns.length], seconds};
        drawMap();
    }

    function drawPatch() {
        const {pixels, width, height, title, patch: {row, column, side, kind}} = state;
        if (!pixels) return;
        const [top, left] = [row, column].map(at => at - Math.floor(side / 2));
        const [bottom, right] = [Math.min(height, top + side), Math.min(width, left + side)];
        const [first, start] = [Math.max(0, top), Math.max(0, left)];
        const words = `${title}, with a patch of ${side} by ${side} pixels, filled with ${FILLED[kind]}, centred on `
            + `row ${row}, column ${column}`;
        const context = draw(parts.picture, pixels, width, height, words);
        const filled = new ImageData(new Uint8ClampedArray(state.fill), width);
        context.putImageData(filled, 0, 0, start, first, right - start, bottom - first);
        const part = (pixels, whole) => `${100 * pixels / whole}%`;
        Object.assign(parts.patch.style, {
            top: part(first, height), left: part(start, width),
            width: part(right - start, width), height: part(bottom - first, height),
        });
        parts.patch.setAttribute("aria-label", `Patch on row ${row}, column ${column}; arrow keys move it`);
    }

    function drawAnswers() {
        const {clean, covered, patch: {row, column}} = state;
        bars(parts.answers, [...parts.class.options].map(({value: k}) => [classes[k], covered[k], clean[k]]));
        const [first, now] = [best(clean), best(covered)];
        const words = `Patch on row ${row}, column ${column}: ${classes[first]} ${short(covered[first])}, without it `
            + `${short(clean[first])} (the lines). `
            + (now === first ? "The answer stays." : `The answer is now ${classes[now]}, ${short(covered[now])}.`);
        parts.where.textContent = words;
        say(parts.said, words);
    }

    function drawMap() {
        const {pixels, width, height, title, swept, clean, k} = state;
        if (!pixels) return;
        if (!swept) {
            draw(parts.map, pixels, width, height, `${title}, without a map of what ${classes[k]} loses`);
            scale(parts.scale, null);
            parts.note.textContent = "Red, where a patch takes from the class; blue, where it adds.";
            return;
        }
        const {probabilities, shape, stride, side, kind, seconds} = swept;
        const losses = probabilities.map(covered => clean[k] - covered[k]), limit = Math.max(...losses.map(Math.abs));
        const others = probabilities.filter(covered => best(covered) !== best(clean)).length, most = best(losses);
        const where = pixel => pixel / stride, over = enlarge(losses, shape, [height, width], where);
        draw(parts.map, overlay(pixels, over, limit), width, height, `What ${classes[k]} loses, over ${title}: most, `
            + `${short(losses[most])}, with the patch on row ${Math.floor(most / shape[1]) * stride}, column `
            + `${most % shape[1] * stride}; least, ${short(Math.min(...losses))}`);
        scale(parts.scale, limit);
        parts.note.textContent = `What ${classes[k]} loses from ${short(clean[k])} where a patch of ${side} × ${side} `
            + `pixels, filled with ${FILLED[kind]}, is centred, at every ${stride}th pixel. At ${others} of `
            + `${losses.length} places the answer is not ${classes[best(clean)]}. ${seconds.toFixed(1)} s.`;
    }

    parts.choice.hidden = !about.pictures;
    options(parts.name, (about.pictures ?? []).map(name => [name, name]), about.pictures?.[0]);
    options(parts.side, sides.map(side => [side, `${side} × ${side}`]), side);
    options(parts.kind, about.kinds.map(kind => [kind, FILLED[kind]]), about.kind);
    movable(parts.stage, parts.patch, () => state, () => state.patch, put);
    parts.name.addEventListener("change", renew);
    for (const part of [parts.side, parts.kind]) part.addEventListener("change", refill);
    parts.class.addEventListener("change", () => { state.k = Number(parts.class.value); drawMap(); });
    parts.sweep.addEventListener("click", () => { if (parts.swept.hidden) sweep(); else stop(); });
    renew();
    return renew;
}
