// Lesson 08: a channel's strongest patches, and new pictures, dark but where its enlarged map lies above a level.

import {draw, enlarge, fill, latest, numbered, options, pictures, say, short, steps} from "./pieces.js";

const TIMES = 4; // a new picture's pixels are shown so large, with a line around what is marked

const HTML = `
<div class="controls">
<label>Layer <select data-part="layer"></select></label>
<label>Channel <input type="number" data-part="channel" min="0" step="1"></label>
<input type="range" data-part="walk" min="0" step="1" aria-label="Channel">
<span><label>Quantile <input type="range" data-part="quantile" min="0" step="1"></label>
<span class="step"></span></span>
</div>
<div class="pair uneven">
<div>
<p class="note">Its strongest patches, at most one a picture, with the activation. Grey lies beyond the picture.</p>
<ol class="pictures three exact" data-part="patches" aria-label="Its strongest patches, the strongest first"></ol>
</div>
<div>
<p class="note" data-part="told"></p>
<ol class="pictures" data-part="scenes" aria-label="New pictures, that of the highest activation first"></ol>
</div>
</div>
<p class="where" data-part="where"></p><p class="heard" data-part="said" role="status"></p>`;

export function face(root, ask, about) {
    const {layers, quantiles, size: [height, width]} = about, parts = fill(root, HTML);
    const percents = quantiles.map(share => `${+(100 * share).toFixed(1)}\u00a0%`);
    const state = root.state = {
        layer: "", channel: 0, // what is shown
        patches: null, activations: null, // the pixels of its patches, one after the other, and their activations
        scenes: null, numbers: [], // the pixels of some new pictures, and which they are
        maps: null, levels: null, // its feature maps of these, and the level for each quantile
        marked: null, // 1 for each of their pixels above the level
    };

    const renew = latest(async () => {
        const layer = parts.layer.value, channel = Number(parts.channel.value);
        Object.assign(state, {layer, channel}, await ask("unit", {layer, channel}));
        drawPatches();
        mark();
    });

    function drawPatches() {
        const {layer, channel, patches, activations} = state, [high, wide] = layers[layer].patch;
        const length = 4 * high * wide;
        pictures(parts.patches, activations.length).forEach(({canvas, caption}, i) => {
            draw(canvas, patches.subarray(i * length, (i + 1) * length), wide, high,
                `Patch ${i + 1} of ${layer}, channel ${channel}: activation ${short(activations[i])}`);
            caption.textContent = short(activations[i]);
        });
    }

    function mark() {
        const {layer, channel, numbers, maps, levels} = state, {map, centre, stride} = layers[layer];
        const level = levels[parts.quantile.value], percent = percents[parts.quantile.value];
        const place = axis => pixel => (pixel + 0.5 - centre[axis]) / Math.max(stride[axis], 1);
        const area = height * width, cells = map[0] * map[1];
        state.marked = new Uint8Array(numbers.length * area);
        pictures(parts.scenes, numbers.length).forEach(({canvas, caption}, i) => {
            const values = enlarge(maps.subarray(i * cells, (i + 1) * cells), map, [height, width], place(0), place(1));
            const marked = state.marked.subarray(i * area, (i + 1) * area);
            values.forEach((value, at) => { marked[at] = value > level ? 1 : 0; });
            const share = `${(100 * marked.reduce((sum, one) => sum + one) / area).toFixed(1)} %`;
            drawMarked(canvas, state.scenes.subarray(4 * i * area, 4 * (i + 1) * area), marked,
                `New picture ${numbers[i]}, bright where channel ${channel} of ${layer} is among its strongest `
                + `${percent}: ${share} of the picture`);
            caption.textContent = share;
        });
        parts.where.textContent = `Bright: where the map of channel ${channel} of ${layer}, enlarged, lies above `
            + `${short(level)}, a level that it exceeds at ${percent} or less of its positions in all `
            + `${about.pictures} new pictures.`;
        say(parts.said, `Channel ${channel} of ${layer}: strongest patch ${short(state.activations[0])}; bright above `
            + `${short(level)}, at ${percent} of the positions.`);
    }

    function drawMarked(canvas, pixels, marked, words) {
        const large = new Uint8ClampedArray(pixels.length * TIMES * TIMES), across = width * TIMES;
        for (let y = 0; y < height * TIMES; y++)
            for (let x = 0; x < across; x++) {
                const at = Math.floor(y / TIMES) * width + Math.floor(x / TIMES), to = 4 * (y * across + x);
                for (let c = 0; c < 3; c++) large[to + c] = pixels[4 * at + c] >> (marked[at] ? 0 : 2);
                large[to + 3] = 255;
            }
        const context = draw(canvas, large, across, height * TIMES, words);
        Object.assign(context, {strokeStyle: "#E69F00", lineWidth: 3});
        context.scale(TIMES, TIMES);
        context.lineWidth /= TIMES;
        context.beginPath();
        for (let y = 0; y < height; y++)
            for (let x = 0; x < width; x++) {
                const here = marked[y * width + x];
                if (x && here !== marked[y * width + x - 1]) line(context, x, y, x, y + 1);
                if (y && here !== marked[(y - 1) * width + x]) line(context, x, y, x + 1, y);
            }
        context.stroke();
        context.resetTransform();
    }

    function choose(channel) {
        if (!(channel >= 0 && channel < layers[parts.layer.value].channels)) return;
        parts.channel.value = parts.walk.value = channel;
        renew();
    }

    function enter() {
        const {channels, channel} = layers[parts.layer.value];
        parts.channel.max = parts.walk.max = channels - 1;
        choose(channel);
    }

    options(parts.layer, Object.keys(layers).map(layer => [layer, layer]), Object.keys(layers)[0]);
    steps(parts.quantile, percents, quantiles.indexOf(about.quantile));
    parts.told.textContent = `The ${about.scenes} of ${about.pictures} new pictures with its highest activations, `
        + "bright at its strongest positions, with the share of the picture that is bright.";
    parts.layer.addEventListener("change", enter);
    parts.walk.addEventListener("input", () => choose(Number(parts.walk.value)));
    numbered(parts.channel, choose, () => parts.walk.value);
    parts.quantile.addEventListener("input", () => {
        steps(parts.quantile, percents, Number(parts.quantile.value));
        if (state.maps) mark();
    });
    enter();
    return renew;
}

function line(context, x, y, right, down) {
    context.moveTo(x, y);
    context.lineTo(right, down);
}
