// Lesson 01: all feature maps of a layer for one picture, at any age of the network; one of them large.

import {
    bars, best, coloured, draw, fill, MAGMA, mosaic, numbered, options, say, scale, short, steps,
} from "./pieces.js";

const MOST = 0.995; // of the values lie on the colour scale
const BEST = 5;

const HTML = `
<div class="controls">
<label data-part="choice">Picture <select data-part="name"></select></label>
<label>Layer <select data-part="layer"></select></label>
<span><label>Age <input type="range" data-part="age" min="0" step="1"></label> <span class="step"></span></span>
</div>
<div class="tiles">
<div>
<div class="stage mosaic" data-part="mosaic"></div>
<div class="scale" data-part="scale" hidden></div>
<p class="note" data-part="note" role="status"></p>
</div>
<div>
<div class="twins"><canvas class="exact" data-part="picture" role="img"></canvas>
<canvas class="exact" data-part="large" role="img"></canvas></div>
<p><label>Channel <input type="number" data-part="channel" min="0" step="1" value="0"></label></p>
<p class="where" data-part="where"></p><p class="heard" data-part="said" role="status"></p>
<p class="note" data-part="named" hidden></p>
<ol class="answers" data-part="answers" aria-label="The five best answers" hidden></ol>
</div>
</div>`;

export function face(root, ask, about) {
    const {epochs, ages, layers} = about, parts = fill(root, HTML);
    const state = root.state = {
        title: "", pixels: null, width: 1, height: 1, // the picture
        layer: layers[0], age: ages.length - 1, channel: 0, // what is chosen
        maps: null, shape: null, probabilities: null, // of that layer: channels, height, width; of all classes
    };
    let questions = 0, colours = null, top = 0; // an answer to an earlier question is no longer wanted
    const show = mosaic(parts.mosaic, "Channel", choose);

    async function renew() {
        const number = ++questions, picture = await ask("picture", {name: parts.name.value});
        if (number !== questions) return;
        Object.assign(state, picture);
        draw(parts.picture, state.pixels, state.width, state.height, `${state.title}, as the network sees it`);
        await change();
    }

    async function change() {
        const number = ++questions, layer = parts.layer.value, age = Number(parts.age.value);
        steps(parts.age, ages, age);
        say(parts.note, `The feature maps ${ages[age]} come with the network’s answer.`);
        const given = {name: parts.name.value, epoch: epochs[age], layer};
        const {maps, shape, probabilities = null} = await ask("maps", given);
        if (number !== questions) return;
        Object.assign(state, {layer, age, maps, shape, probabilities, channel: Math.min(state.channel, shape[0] - 1)});
        // from 0 to what nearly all values are below, so that one large value does not darken the rest
        const sorted = Float32Array.from(maps).sort(), place = MOST * (maps.length - 1), low = Math.floor(place);
        top = sorted[low] + (place - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
        colours = coloured(maps, 0, top, MAGMA);
        drawMaps();
    }

    function choose(channel) {
        if (!state.maps || !(channel >= 0 && channel < state.shape[0])) return;
        state.channel = channel;
        drawMaps();
    }

    function drawMaps() {
        const {title, layer, age, channel, maps, probabilities} = state;
        const [count, height, width] = state.shape, area = height * width;
        const of = c => maps.subarray(c * area, (c + 1) * area);
        const dead = Array.from({length: count}, (_, c) => Math.max(...of(c))).filter(largest => largest === 0).length;
        const words = `${count} feature maps of ${layer} ${ages[age]}, ${title}`;
        show({pixels: colours, count, width, height, chosen: channel, words: `${words}; channel ${channel} is framed`});
        scale(parts.scale, top, 0, MAGMA);
        parts.scale.lastChild.prepend("≥ ");
        say(parts.note, `${layer} ${ages[age]}: activations of ${count} channels at ${height} × ${width} positions, `
            + `${dead} of them dead for this picture (0 everywhere).`);

        const values = of(channel), most = best(values), zeros = values.filter(value => value === 0).length;
        const told = values[most] === 0 ? `dead for this picture, 0 at all ${area} positions`
            : `not dead for this picture: at most ${short(values[most])}, in row ${Math.floor(most / width) + 1} and `
            + `column ${most % width + 1} of ${height} × ${width}; 0 at ${zeros} of ${area} positions `
            + `(${Math.round(100 * zeros / area)}\u00a0%)`;
        Object.assign(parts.channel, {max: count - 1, value: channel});
        parts.where.textContent = `Channel ${channel} is ${told}.`;
        say(parts.said, parts.where.textContent);
        const large = colours.subarray(4 * channel * area, 4 * (channel + 1) * area);
        draw(parts.large, large, width, height, `Channel ${channel} of ${layer} ${ages[age]}, ${title}: ${told}`);
        parts.answers.hidden = parts.named.hidden = !probabilities;
        if (!probabilities) return;
        parts.named.textContent = `The best answers ${ages[age]}, of the ${probabilities.length} classes it knows:`;
        const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]).slice(0, BEST);
        bars(parts.answers, order.map(k => [about.classes[k], probabilities[k]]));
    }

    parts.choice.hidden = !about.pictures;
    options(parts.name, (about.pictures ?? []).map(name => [name, name]), about.pictures?.[0]);
    options(parts.layer, layers.map(layer => [layer, layer]), state.layer);
    steps(parts.age, ages, state.age);
    parts.name.addEventListener("change", renew);
    parts.layer.addEventListener("change", change);
    parts.age.addEventListener("input", change);
    numbered(parts.channel, choose, () => state.channel);
    renew();
    return renew;
}
