// Lesson 03: a map of pictures; the one under the pointer or reached by arrow keys, and its neighbours on the map.

import {fill, options, pictures, say} from "./pieces.js";

const SIDE = 880; // of the map's canvas
const EDGE = 0.04; // of it is free on each side
const NEAREST = 8;
const WAYS = {ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0]};
// the marks of the figures, as paths around a point that is 10 wide
const MARKS = {
    o: "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0Z",
    x: "M-4-4 4 4M-4 4 4-4",
};
const INK = "#222"; // around each mark, since some colours are close to white

const HTML = `
<div class="controls">
<label data-part="choice">Space <select data-part="space"></select></label>
<label>Perplexity <select data-part="perplexity"></select></label>
<label>Seed <select data-part="seed"></select></label>
</div>
<div class="pair">
<div>
<div class="stage dots" data-part="stage"><canvas data-part="map" width="${SIDE}" height="${SIDE}" role="img"></canvas>
<div class="ring" data-part="ring" tabindex="0" role="application" aria-roledescription="point on the map"></div></div>
<ul class="legend" data-part="legend" aria-label="Marks on the map"></ul>
<p class="note">Point at a mark; click to keep it, then walk on with the arrow keys, each to the nearest mark in that
direction. Thin circles: its eight nearest. The axes have no unit.</p>
</div>
<div>
<canvas class="picked" data-part="picture" role="img"></canvas>
<p class="where" data-part="where"></p><p class="heard" data-part="said" role="status"></p>
<ol class="pictures" data-part="near" aria-label="Its eight nearest neighbours on the map, the nearest first"></ol>
<p class="note">Its neighbours on the map, the nearest first. Solid frame: the same label. Dashed: another.</p>
</div>
</div>`;

export function face(root, ask, about) {
    const {classes, labels} = about, parts = fill(root, HTML), shapes = {};
    for (const [mark, path] of Object.entries(MARKS)) shapes[mark] = new Path2D(path);
    const state = root.state = {
        at: null, // x and y of each picture on the map, in parts of its side from the left and from above
        index: 0, kept: 0, // the picture that is shown, and the one that is shown when the pointer has left
        near: [], // its neighbours, the nearest first
    };
    let maps = 0, sheet = null; // how many maps were asked for; all pictures, as tiles of one

    async function renew() {
        const number = ++maps, [perplexity, seed] = [parts.perplexity, parts.seed].map(part => Number(part.value));
        const {places} = await ask("map", {space: parts.space.value, perplexity, seed});
        sheet ??= await createImageBitmap(new Blob([(await ask("pictures", {})).file]));
        if (number !== maps) return;
        state.at = framed(places);
        show(state.kept);
    }

    function show(index) {
        const {at} = state, own = labels[index], from = labels.map((_, i) => apart(at[i], at[index]));
        const near = [...labels.keys()].filter(i => i !== index).sort((a, b) => from[a] - from[b]).slice(0, NEAREST);
        const same = near.filter(i => labels[i] === own).length;
        const words = `Picture ${index}: ${classes[own].name}. Of the ${near.length} nearest to it on the map, `
            + `${same || "none"} ${same > 1 ? "are" : "is"} labelled ${classes[own].name}.`;
        Object.assign(state, {index, near});
        drawMap(words);
        drawPicture(parts.picture, index, `Picture ${index}, ${classes[own].name}`);
        pictures(parts.near, near.length).forEach(({item, canvas, caption}, i) => {
            const {name} = classes[labels[near[i]]], alike = labels[near[i]] === own;
            item.className = alike ? "same" : "other";
            drawPicture(canvas, near[i], `Picture ${near[i]}, ${name}, ${alike ? "the same label" : "another label"}`);
            caption.textContent = name;
        });
        parts.where.textContent = words;
    }

    function keep(index) {
        state.kept = index;
        show(index);
        say(parts.said, parts.where.textContent);
    }

    function drawMap(words) {
        const {at, index, near} = state, context = parts.map.getContext("2d"), unit = SIDE / 440;
        context.fillStyle = "#fff";
        context.fillRect(0, 0, SIDE, SIDE);
        at.forEach(([x, y], i) => {
            const {colour, mark} = classes[labels[i]], shape = shapes[mark];
            context.setTransform(unit, 0, 0, unit, x * SIDE, y * SIDE);
            for (const [strokeStyle, lineWidth] of [[INK, 2.8], [colour, 1.9]]) {
                Object.assign(context, {strokeStyle, lineWidth, fillStyle: colour});
                context.stroke(shape);
                if (mark === "o") context.fill(shape);
            }
        });
        context.resetTransform();
        Object.assign(context, {strokeStyle: INK, lineWidth: unit});
        for (const i of near) {
            context.beginPath();
            context.arc(at[i][0] * SIDE, at[i][1] * SIDE, 8 * unit, 0, 2 * Math.PI);
            context.stroke();
        }
        const chosen = `perplexity ${parts.perplexity.value}, seed ${parts.seed.value}`;
        parts.map.setAttribute("aria-label", `Map of ${at.length} pictures by their ${parts.space.value}, ${chosen}. `
            + `Ringed is ${words.charAt(0).toLowerCase()}${words.slice(1)}`);
        Object.assign(parts.ring.style, {left: `${100 * at[index][0]}%`, top: `${100 * at[index][1]}%`});
        const {name} = classes[labels[index]];
        parts.ring.setAttribute("aria-label", `Picture ${index}, ${name}; arrow keys go on from it`);
    }

    function drawPicture(canvas, index, words) {
        const {columns, width, height} = about;
        if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
        const [left, top] = [index % columns * width, Math.floor(index / columns) * height];
        canvas.getContext("2d").drawImage(sheet, left, top, width, height, 0, 0, width, height);
        canvas.setAttribute("aria-label", words);
    }

    // the picture nearest to an event
    function pointed(event) {
        const {left, top, width, height} = parts.map.getBoundingClientRect();
        const place = [(event.clientX - left) / width, (event.clientY - top) / height];
        return closest(state.at, from => apart(from, place));
    }

    parts.stage.addEventListener("pointermove", event => {
        if (!state.at || event.pointerType !== "mouse") return; // a finger there scrolls the page
        const index = pointed(event);
        if (index !== state.index) show(index);
    });
    parts.stage.addEventListener("pointerleave", () => {
        if (state.at && state.index !== state.kept) show(state.kept);
    });
    parts.stage.addEventListener("click", event => {
        if (!state.at) return;
        keep(pointed(event));
        parts.ring.focus({preventScroll: true});
    });
    parts.ring.addEventListener("keydown", event => {
        const way = WAYS[event.key];
        if (!way || !state.at) return;
        event.preventDefault();
        event.stopPropagation(); // JupyterLab would go to the next cell
        const to = next(state.at, state.kept, way);
        if (to >= 0) keep(to);
    });

    parts.legend.replaceChildren(...classes.map(({name, colour, mark}) => {
        const item = document.createElement("li"), path = `<path d="${MARKS[mark]}"`;
        item.innerHTML = `<svg viewBox="-6 -6 12 12" aria-hidden="true">${path} stroke="${INK}" stroke-width="2.8"/>
            ${path} fill="${colour}" stroke="${colour}" stroke-width="1.9"/></svg>`;
        item.append(name);
        return item;
    }));
    parts.choice.hidden = about.spaces.length < 2;
    options(parts.space, about.spaces.map(space => [space, space]), about.spaces.at(-1));
    options(parts.perplexity, about.perplexities.map(n => [n, n]), about.perplexity);
    options(parts.seed, about.seeds.map(n => [n, n]), about.seeds[0]);
    for (const part of [parts.space, parts.perplexity, parts.seed]) part.addEventListener("change", renew);
    renew();
    return renew;
}

const apart = ([x, y], [a, b]) => Math.hypot(x - a, y - b);

// The number of the point with the least distance; −1 if all are infinitely far.
function closest(at, distance) {
    let least = Infinity, found = -1;
    at.forEach((place, i) => {
        const far = distance(place, i);
        if (far < least) [least, found] = [far, i];
    });
    return found;
}

// The nearest point in a direction, up to 45° beside it, or further beside it if there is none; −1 if there is none
// at all.
function next(at, from, [right, down]) {
    const nearest = widest => closest(at, ([x, y]) => {
        const [over, under] = [x - at[from][0], y - at[from][1]], along = over * right + under * down;
        const beside = Math.abs(over * down + under * right);
        return along > 0 && beside <= widest * along ? Math.hypot(over, under) : Infinity;
    });
    const found = nearest(1);
    return found >= 0 ? found : nearest(Infinity);
}

// The places of a map in a square frame, whatever its unit: x from the left, y from above.
function framed(places) {
    const axes = [0, 1].map(axis => places.filter((_, i) => i % 2 === axis));
    const ends = axes.map(axis => [Math.min(...axis), Math.max(...axis)]);
    const extent = Math.max(...ends.map(([low, high]) => high - low)) || 1;
    const inside = (value, [low, high]) => (value - (low + high) / 2) / extent * (1 - 2 * EDGE);
    return Array.from(axes[0], (x, i) => [0.5 + inside(x, ends[0]), 0.5 - inside(axes[1][i], ends[1])]);
}
