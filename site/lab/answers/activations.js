// Answers to faces/activations.js.

import {about, load, run} from "../network.js";
import {input, once, shown} from "../picture.js";
import {softmax} from "../pixels.js";

const named = epoch => `small_cnn_cifar10_${epoch}`;

// Each age has a network of its own, which loads when it is chosen.
export const network = ({epoch}) => named(epoch);

export const look = {
    async picture() {
        const {networks, panels} = await about;
        return shown(networks[panels.activations.network].size);
    },
};

export const ask = {
    // The feature maps of a layer, channel after channel, and the probabilities of all classes.
    async maps({epoch, layer}) {
        const planes = await input(named(epoch));
        const found = await once(`maps ${epoch}`, () => run(named(epoch), planes, 1));
        const {epochs} = (await about).panels.activations;
        load(named(epochs[0])).catch(() => {}); // the untrained network, with which readers compare
        const {data, dims} = found[layer];
        return {maps: data, shape: dims.slice(1), probabilities: softmax(found.logits.data)};
    },
};
