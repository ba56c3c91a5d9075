"""The ground on which training and every method stand: run a network, look inside it, find its head."""

from lessons_lib.networks.features import features
from lessons_lib.networks.heads import head_name, noise
from lessons_lib.networks.hooks import (
    ForwardHook,
    capture,
    check_ran_once,
    get_layer,
    hooked,
    layer_names,
    recording,
)
from lessons_lib.networks.inputs import (
    Classes,
    at_least_float32,
    class_numbers,
    device_of,
    feature_maps,
    first_parameter,
    logits_of,
    network_input,
)
from lessons_lib.networks.running import (
    accuracy,
    connected,
    differentiating,
    evaluating,
    memory_format,
    predict,
    run,
    seeded,
    uncompiled,
)
