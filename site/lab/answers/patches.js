// Answers to faces/patches.js, from the files that patches.py writes: for each layer a picture of all patches, a row
// for each channel, and numbers, packed; and one picture of new pictures.

import {about, read} from "../network.js";

const files = new Map(); // what was read, by name

function kept(name, open) {
    if (!files.has(name)) files.set(name, read(name).then(bytes => open(new Blob([bytes]))));
    return files.get(name);
}

const picture = name => kept(name, blob => createImageBitmap(blob, {colorSpaceConversion: "none"}));
const numbers = name => kept(name, blob => {
    return new Response(blob.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
});

// Tiles of a picture, at these places in it, as pixels, one tile after the other.
function cut(from, places, [height, width]) {
    const context = new OffscreenCanvas(width, height * places.length).getContext("2d");
    places.forEach(([x, y], i) => context.drawImage(from, x, y, width, height, 0, i * height, width, height));
    return context.getImageData(0, 0, width, height * places.length).data;
}

export const look = {
    async unit({layer, channel}) {
        const {layers, quantiles, patches: count, scenes, columns, block, size} = (await about).panels.patches;
        const {channels, patch, map} = layers[layer], packed = await numbers(`patches_${layer}.bin`);
        const floats = 1 + count, ends = [quantiles.length, quantiles.length + scenes];
        const length = ends[1] + scenes * map[0] * map[1]; // of the whole numbers of a channel
        const [largest, ...activations] = new Float32Array(packed, 4 * channel * floats, floats);
        const whole = new Uint16Array(packed, 4 * channels * floats + 2 * channel * length, length);
        const values = (from, to) => Float32Array.from(whole.subarray(from, to), value => value / 65535 * largest);
        const shown = [...whole.subarray(...ends)];
        const [high, wide] = patch.map(length => block * Math.ceil(length / block));
        const inRow = Array.from({length: count}, (_, i) => [i * wide, channel * high]);
        const inTable = shown.map(number => [number % columns * size[1], Math.floor(number / columns) * size[0]]);
        return {
            patches: cut(await picture(`patches_${layer}.jpg`), inRow, patch),
            activations,
            numbers: shown,
            scenes: cut(await picture("patches_new.jpg"), inTable, size),
            maps: values(ends[1], length),
            levels: values(0, ends[0]),
        };
    },
};
