// Answers to faces/evaluation.js, as answers/evaluation.py wrote them down.

import {about, read} from "../network.js";

const told = about.then(({panels}) => panels.evaluation);
const product = lengths => lengths.reduce((a, b) => a * b, 1);
let opened;

async function open() {
    const {arrays, files} = await told, found = {};
    const stream = new Blob([await read(files[0])]).stream().pipeThrough(new DecompressionStream("gzip"));
    const buffer = await new Response(stream).arrayBuffer();
    let at = 0;
    for (const [name, {type, shape}] of Object.entries(arrays)) {
        found[name] = new globalThis[type](buffer, at, product(shape));
        at += found[name].byteLength;
    }
    return found;
}

// What an array has at a place of its first dimensions.
async function at(name, ...place) {
    const values = (await (opened ??= open()))[name], {shape} = (await told).arrays[name];
    const size = product(shape.slice(place.length)), start = place.reduce((sum, i, d) => sum * shape[d] + i, 0);
    return values.slice(start * size, (start + 1) * size);
}

// Numbers of the scene and of its twin, one after the other.
async function both(name, place, which) {
    const [whole, without] = [await at(name, ...place, 0), await at(name, ...place, which)];
    return Float32Array.of(...whole, ...without);
}

async function places({part, network, method}) {
    const {names, networks, methods} = await told;
    return [1 + names.indexOf(part), networks.indexOf(network), methods.indexOf(method)];
}

export const look = {
    async twins({scene, part, network}) {
        const [which, model] = await places({part, network}), {width, height, labels} = await told;
        return {whole: await at("pictures", scene, 0), without: await at("pictures", scene, which), width, height,
            label: labels[scene], logits: await both("logits", [model, scene], which)};
    },

    async maps({scene, part, network, method}) {
        const [which, model, how] = await places({part, network, method}), place = [model, how, scene];
        const roots = await both("maps", place, which), limits = await both("limits", place, which);
        const area = roots.length / 2; // kept are roots of the size, as whole numbers up to 127
        return {maps: roots.map((root, i) => limits[Math.floor(i / area)] * Math.sign(root) * (root / 127) ** 2)};
    },

    async parts({scene, network}) {
        const [, model] = await places({network}), of = name => at(name, model, scene);
        return {effects: await of("effects"), sums: await of("sums"), agreement: await of("agreement")};
    },
};
